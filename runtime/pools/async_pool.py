"""A pool of any connections, for the tasks of one event loop."""

import asyncio
import logging
import sys
import time
from asyncio import current_task
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, Generic

from runtime.pools.errors import (
    SHOWN_HOLDERS,
    Holding,
    PoolClosed,
    PoolMisused,
    PoolOverloaded,
    PoolTimeout,
    occupied,
)
from runtime.pools.forks import tell_of_forks
from runtime.pools.holders import captured, holdings, report_abandoned, report_overdue
from runtime.pools.ledger import Connection, Ledger, Limits, Place
from runtime.pools.lent import AsyncLent
from runtime.pools.stats import PoolStats, Reason

log = logging.getLogger(__name__)

DEFAULT_LIMITS: Final = Limits()
#: Who holds a place while the pool itself opens a connection.
WARMING: Final = "the pool, to keep it warm"
#: Who holds a place that was borrowed outside of a task.
NOBODY: Final = "no task"


class AsyncPool(Generic[Connection]):
    """As ``Pool``, for the tasks of one event loop: the first that borrows makes it the pool's.

    A borrower may be cancelled at any moment, also in the one in which it is given a connection: the next one gets it.
    ``connect`` has to clean up after itself where it is cancelled.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[Connection]],
        close: Callable[[Connection], Awaitable[None]],
        limits: Limits = DEFAULT_LIMITS,
        *,
        check: Callable[[Connection], Awaitable[bool]] | None = None,
        survives: Callable[[BaseException], bool] | None = None,
        name: str = "connections",
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self._connect = connect
        self._close = close
        self._check = check
        self._survives = survives or _nothing
        self._limits = limits
        self._now_s = now_s
        self._inherited: list[object] = []
        self._begin()
        tell_of_forks(self)

    def borrow(self, timeout_s: float | None = None) -> AsyncLent[Connection]:
        """Lend a connection to the block, the one used last, or a new one; wait for one in turn where all are lent.

        Raises:
            PoolTimeout: none came free within ``timeout_s``, by default the pool's (retryable).
            PoolOverloaded: too many wait already (retryable).
            PoolClosed: the pool is closed (final).
            PoolMisused: the pool belongs to another event loop (final).
            Exception: as ``connect``.
        """
        return AsyncLent(self, timeout_s)

    async def maintain(self) -> None:
        """Close what is too old or idle for too long, open what is kept warm, report what is held for too long."""
        now_s = self._now_s()
        # All are begun before one is awaited: who awaits them may be cancelled, and they are on no list any more.
        retired = [self._start_discarding(place, reason) for place, reason in self._ledger.retire(now_s)]
        if retired:
            await asyncio.wait(retired)
        report_overdue(self.name, self._ledger.overdue(now_s), now_s)
        await self._warm_up()

    def stats(self) -> PoolStats:
        """The pool's numbers of this moment."""
        return self._ledger.stats()

    def holdings(self, limit: int | None = None) -> list[Holding]:
        """Who holds a connection, for how long, and where it was borrowed, if that was captured; longest first."""
        return holdings(self._ledger.held(), self._now_s(), limit)

    async def close(self, timeout_s: float = 10.0) -> bool:
        """Lend nothing any more, close what is idle, and wait for what is lent; those who wait get ``PoolClosed``.

        Whether all were given back in time: the others are closed as they come back.
        """
        if self._keeper:
            self._keeper.cancel()
            await asyncio.wait([self._keeper], timeout=timeout_s)
        for place in self._ledger.close():
            self._start_discarding(place, "pool closed")
        if self._ledger.empty:
            self._emptied.set()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._emptied.wait(), timeout_s)
        if not self._emptied.is_set():
            log.warning("pool %s is closed and %d connections are still lent", self.name, self.stats().in_use)
        return self._emptied.is_set()

    async def __aenter__(self) -> "AsyncPool[Connection]":
        self._bind()
        if self._limits.warm:
            await self._warm_up()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def forked(self) -> None:
        """In a child: begin anew. What is open is the parent's, and not even closed: that would say goodbye for it."""
        ledger = self._ledger
        ledger.disown()
        # Kept, so that no destructor closes a socket of the parent's, and no task is mourned.
        self._inherited.append((ledger, self._keeper, self._discarding, self._closing, self._loop))
        self._begin()
        self._ledger.closed = ledger.closed

    def _begin(self) -> None:
        self._ledger: Ledger[Connection] = Ledger(self.name, self._limits)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._discarding: set[asyncio.Task[None]] = set()
        self._closing: dict[Place[Connection], asyncio.Task[None]] = {}
        self._emptied = asyncio.Event()

    def _bind(self) -> None:
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise PoolMisused(
                f"Pool {self.name!r} belongs to another event loop than the one that borrows. Open one for each loop."
            )
        if self._limits.maintain_every_s is not None and self._keeper is None and not self._ledger.closed:
            self._keeper = loop.create_task(self._keep(self._limits.maintain_every_s), name=f"pool {self.name}")

    async def _take(self, timeout_s: float | None) -> Place[Connection]:
        if self._loop is not asyncio.get_running_loop():
            self._bind()
        holder = current_task() or NOBODY
        now_s = self._now_s()
        place = self._ledger.take(holder, now_s)
        if place is None:
            place = await self._wait(holder, now_s, self._limits.timeout_s if timeout_s is None else timeout_s)
            now_s = self._now_s()
        if now_s >= place.fit_until_s:
            await self._make_fit(place, now_s)
        every = self._limits.stack_every
        if every and self._ledger.borrowed % every == 0:
            place.stack = captured(sys._getframe(2))  # past the pool's own
        return place

    async def _wait(self, holder: object, now_s: float, timeout_s: float) -> Place[Connection]:
        """Wait in turn. Whatever ends the wait, a place that was granted meanwhile is used or passed on."""
        signal: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def wake() -> None:
            if not signal.done():
                signal.set_result(None)

        waiter = self._ledger.wait(wake, holder, now_s)
        if waiter is None:
            raise PoolOverloaded(self.name, self._limits.waiting, occupied(self.stats()), self.holdings(SHOWN_HOLDERS))
        try:
            await asyncio.wait([signal], timeout=max(0.0, timeout_s))
        except BaseException:
            self._ledger.leave(waiter, self._now_s(), timed_out=False)
            if waiter.place is not None:
                self._pass_on(waiter.place, broken=False)
            raise
        self._ledger.leave(waiter, self._now_s(), timed_out=True)
        if waiter.place is not None:
            return waiter.place
        if self._ledger.closed:
            raise PoolClosed(self.name)
        raise PoolTimeout(self.name, timeout_s, occupied(self.stats()), self.holdings(SHOWN_HOLDERS))

    async def _make_fit(self, place: Place[Connection], now_s: float) -> None:
        """Give the place a connection that works: the one that it has, if it is good, else a new one."""
        try:
            reason = await self._unfit(place, now_s)
            if reason:
                await self._shut(place, reason)
            if not place.open:
                await self._open(place)
        except BaseException:
            self._pass_on(place, broken=True)
            raise

    async def _unfit(self, place: Place[Connection], now_s: float) -> Reason | None:
        if not place.open:
            return None
        if now_s >= place.dies_s:
            return "too old"
        if self._check is None or now_s - place.idle_since_s < self._limits.check_after_s:
            return None
        try:
            return None if await self._check(place.connection) else "invalid"
        except Exception:  # of whatever kind: a connection whose check fails is not lent
            return "invalid"

    async def _open(self, place: Place[Connection]) -> None:
        try:
            connection = await self._connect()
        except BaseException:
            self._ledger.failed()
            raise
        self._ledger.opened(place, connection, self._now_s())

    def _give_back(self, place: Place[Connection]) -> None:
        if place.holder is None:  # the parent's, given back in a child
            return
        if self._ledger.closed:
            self._start_discarding(place, "pool closed")
        else:
            self._ledger.give_back(place, self._now_s())

    def _pass_on(self, place: Place[Connection], *, broken: bool) -> None:
        """A place that its borrower could not even begin to use."""
        if place.open and not broken:
            self._give_back(place)
        elif place.open or place in self._closing:
            self._start_discarding(place, "broken")
        else:
            self._vacate(place)

    async def _discard(self, place: Place[Connection], reason: Reason) -> None:
        # In a task of its own: who awaits this may be cancelled, and the place must become free all the same.
        await asyncio.shield(self._start_discarding(place, reason))

    def _start_discarding(self, place: Place[Connection], reason: Reason) -> asyncio.Task[None]:
        """Close the place's connection, and only then make room: there are never more open than may be."""
        task = asyncio.get_running_loop().create_task(self._shut_and_vacate(place, reason))
        self._discarding.add(task)
        task.add_done_callback(self._discarding.discard)
        return task

    async def _shut_and_vacate(self, place: Place[Connection], reason: Reason) -> None:
        try:
            if place.open:
                await self._shut(place, reason)
            elif place in self._closing:  # whoever began to close it was cancelled
                await self._closing[place]
        finally:
            self._vacate(place)

    def _vacate(self, place: Place[Connection]) -> None:
        self._ledger.vacate(place, self._now_s())
        if self._ledger.closed and self._ledger.empty:
            self._emptied.set()

    async def _shut(self, place: Place[Connection], reason: Reason) -> None:
        task = asyncio.get_running_loop().create_task(self._close_quietly(place.connection, reason))
        self._closing[place] = task
        task.add_done_callback(lambda _: self._closing.pop(place, None))
        self._ledger.shut(place, reason)
        # Half a farewell would leave the connection open: who awaits it may be cancelled, the farewell not.
        await asyncio.shield(task)

    async def _close_quietly(self, connection: Connection, reason: Reason) -> None:
        try:
            await self._close(connection)
        except Exception as error:  # whatever is wrong with it, it is gone
            log.warning("pool %s: closing a connection (%s) failed: %r", self.name, reason, error)

    def _dropped(self, place: Place[Connection]) -> None:
        """A borrower was collected as garbage, in any thread, at any moment."""
        with suppress(RuntimeError):  # the loop is closed, and with it the connection
            if self._loop is not None and place.holder is not None:
                self._loop.call_soon_threadsafe(self._reclaim, place)

    def _reclaim(self, place: Place[Connection]) -> None:
        self._ledger.abandoned()
        report_abandoned(self.name, place, self._now_s())
        self._start_discarding(place, "abandoned")

    async def _warm_up(self) -> None:
        while (place := self._ledger.warm_up(WARMING, self._now_s())) is not None:
            try:
                await self._open(place)
            except Exception as error:  # a borrower will see it; here it is tried again with the next maintenance
                self._vacate(place)
                log.warning("pool %s: no connection to keep warm: %r", self.name, error)
                return
            except BaseException:
                self._vacate(place)
                raise
            self._give_back(place)

    async def _keep(self, every_s: float) -> None:
        await self._warm_up()
        while True:
            await asyncio.sleep(every_s)
            await self.maintain()


def _nothing(_error: BaseException) -> bool:
    return False
