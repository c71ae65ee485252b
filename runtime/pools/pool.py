"""A pool of any connections, for threads."""

import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from threading import get_ident
from typing import Final, Generic

from runtime.pools.errors import SHOWN_HOLDERS, Holding, PoolClosed, PoolOverloaded, PoolTimeout, occupied
from runtime.pools.forks import tell_of_forks
from runtime.pools.holders import captured, holdings, report_abandoned, report_overdue
from runtime.pools.ledger import Connection, Ledger, Limits, Place, Waiter
from runtime.pools.lent import Lent
from runtime.pools.stats import PoolStats, Reason

log = logging.getLogger(__name__)

DEFAULT_LIMITS: Final = Limits()
#: How often one who closes a pool looks for connections that were dropped.
LOOK_S: Final = 1.0
#: Who holds a place while the pool itself opens a connection.
WARMING: Final = "the pool, to keep it warm"


class Pool(Generic[Connection]):
    """Connections that are opened once and lent to one borrower at a time; for threads, fair among them.

    ``connect`` opens one and ``close`` closes it. ``check`` says whether one that lay idle is still good; an exception
    of it means no. ``survives`` says which exceptions out of a borrower's block leave a connection as good as it was.
    All are called without the pool's lock, from borrowers' threads and from the pool's own. A process that is forked
    starts anew, and leaves the parent's connections as they are.
    """

    def __init__(
        self,
        connect: Callable[[], Connection],
        close: Callable[[Connection], None],
        limits: Limits = DEFAULT_LIMITS,
        *,
        check: Callable[[Connection], bool] | None = None,
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
        self._inherited: list[Ledger[Connection]] = []
        self._begin()
        tell_of_forks(self)
        if limits.warm:
            self._look_after_itself()

    def borrow(self, timeout_s: float | None = None) -> Lent[Connection]:
        """Lend a connection, the one used last, or a new one; wait for one in turn where all are lent.

        Raises:
            PoolTimeout: none came free within ``timeout_s``, by default the pool's (retryable).
            PoolOverloaded: too many wait already (retryable).
            PoolClosed: the pool is closed (final).
            Exception: as ``connect``.
        """
        now_s = self._now_s()
        with self._lock:
            place = self._ledger.take(get_ident(), now_s)
        if place is None:
            place = self._wait(self._limits.timeout_s if timeout_s is None else timeout_s)
            now_s = self._now_s()
        if now_s >= place.fit_until_s:
            self._make_fit(place, now_s)
        if self._stack_every and self._ledger.borrowed % self._stack_every == 0:
            place.stack = captured(sys._getframe(1))
        return Lent(self, place)

    def maintain(self) -> None:
        """Close what is too old or idle for too long, open what is kept warm, report what is held for too long."""
        self._reclaim()
        now_s = self._now_s()
        with self._lock:
            retired = self._ledger.retire(now_s)
            overdue = self._ledger.overdue(now_s)
        for place, reason in retired:
            self._discard(place, reason)
        report_overdue(self.name, overdue, now_s)
        self._warm_up()

    def stats(self) -> PoolStats:
        """The pool's numbers of this moment."""
        with self._lock:
            return self._ledger.stats()

    def holdings(self, limit: int | None = None) -> list[Holding]:
        """Who holds a connection, for how long, and where it was borrowed, if that was captured; longest first."""
        with self._lock:
            return holdings(self._ledger.held(), self._now_s(), limit)

    def close(self, timeout_s: float = 10.0) -> bool:
        """Lend nothing any more, close what is idle, and wait for what is lent; those who wait get ``PoolClosed``.

        Whether all were given back in time: the others are closed as they come back.
        """
        ends_s = time.monotonic() + timeout_s
        with self._lock:
            idle = self._ledger.close()
        self._closing.set()
        for place in idle:
            self._discard(place, "pool closed")
        if self._keeper and self._keeper is not threading.current_thread():
            self._keeper.join(timeout_s)
        with self._lock:
            if self._ledger.empty:
                self._emptied.set()
        drained, left_s = False, LOOK_S
        while not drained and left_s > 0.0:
            self._reclaim()  # also what is dropped meanwhile: no keeper is there any more
            left_s = max(0.0, ends_s - time.monotonic())
            drained = self._emptied.wait(min(left_s, LOOK_S))
        if not drained:
            log.warning("pool %s is closed and %d connections are still lent", self.name, self.stats().in_use)
        return drained

    def forked(self) -> None:
        """In a child: begin anew. What is open is the parent's, and not even closed: that would say goodbye for it."""
        ledger = self._ledger
        ledger.disown()
        # Kept, so that no destructor closes a socket of the parent's.
        self._inherited.append(ledger)
        self._begin()
        self._ledger.closed = ledger.closed

    def _begin(self) -> None:
        self._stack_every = self._limits.stack_every
        self._ledger: Ledger[Connection] = Ledger(self.name, self._limits)
        self._lock = threading.Lock()
        self._abandoned: deque[Place[Connection]] = deque()
        self._closing = threading.Event()
        self._emptied = threading.Event()
        self._keeper: threading.Thread | None = None

    def _wait(self, timeout_s: float) -> Place[Connection]:
        """Wait in turn. Whatever ends the wait, a place that was granted meanwhile is used or passed on."""
        self._reclaim()
        signal = threading.Lock()
        signal.acquire()
        began_s = self._now_s()
        with self._lock:
            # Something may have been given back since.
            place = self._ledger.take(get_ident(), began_s)
            if place is not None:
                return place
            waiter = self._ledger.wait(signal.release, get_ident(), began_s)
        if waiter is None:
            raise PoolOverloaded(self.name, self._limits.waiting, occupied(self.stats()), self.holdings(SHOWN_HOLDERS))
        try:
            signal.acquire(timeout=min(max(0.0, timeout_s), threading.TIMEOUT_MAX))
        except BaseException:  # Ctrl-C: the next one must not wait for a place that nobody has
            self._leave(waiter, timed_out=False)
            if waiter.place is not None:
                self._pass_on(waiter.place)
            raise
        self._leave(waiter, timed_out=True)
        if waiter.place is not None:
            return waiter.place
        if self._ledger.closed:
            raise PoolClosed(self.name)
        raise PoolTimeout(self.name, timeout_s, occupied(self.stats()), self.holdings(SHOWN_HOLDERS))

    def _leave(self, waiter: Waiter[Connection], *, timed_out: bool) -> None:
        with self._lock:
            self._ledger.leave(waiter, self._now_s(), timed_out=timed_out)

    def _make_fit(self, place: Place[Connection], now_s: float) -> None:
        """Give the place a connection that works: the one that it has, if it is good, else a new one."""
        try:
            reason = self._unfit(place, now_s)
            if reason:
                self._shut(place, reason)
            if not place.open:
                self._open(place)
        except BaseException:
            self._discard(place, "broken")
            raise

    def _unfit(self, place: Place[Connection], now_s: float) -> Reason | None:
        if not place.open:
            return None
        if now_s >= place.dies_s:
            return "too old"
        if self._check is None or now_s - place.idle_since_s < self._limits.check_after_s:
            return None
        try:
            return None if self._check(place.connection) else "invalid"
        except Exception:  # of whatever kind: a connection whose check fails is not lent
            return "invalid"

    def _open(self, place: Place[Connection]) -> None:
        self._look_after_itself()
        try:
            connection = self._connect()
        except BaseException:
            with self._lock:
                self._ledger.failed()
            raise
        with self._lock:
            self._ledger.opened(place, connection, self._now_s())

    def _pass_on(self, place: Place[Connection]) -> None:
        """A place that nobody began to use."""
        now_s = self._now_s()
        with self._lock:
            if place.open and not self._ledger.closed:
                self._ledger.give_back(place, now_s)
                return
        self._discard(place, "pool closed")

    def _take_back(self, lent: Lent[Connection]) -> None:
        now_s = self._now_s()
        # Of two threads that give back at once, one does: the other would take it from its next borrower.
        with self._lock:
            place, lent._place = lent._place, None
            if place is None or place.holder is None:  # the second time, or the parent's, given back in a child
                return
            if not self._ledger.closed:
                self._ledger.give_back(place, now_s)
                return
        self._discard(place, "pool closed")

    def _discard_lent(self, lent: Lent[Connection]) -> None:
        with self._lock:
            place, lent._place = lent._place, None
        if place is not None and place.holder is not None:  # as in ``_take_back``
            self._discard(place, "broken")

    def _discard(self, place: Place[Connection], reason: Reason) -> None:
        """Close the place's connection, and only then make room: there are never more open than may be."""
        try:
            if place.open:
                self._shut(place, reason)
        finally:
            with self._lock:
                self._ledger.vacate(place, self._now_s())
                if self._ledger.closed and self._ledger.empty:
                    self._emptied.set()

    def _shut(self, place: Place[Connection], reason: Reason) -> None:
        connection = place.connection
        with self._lock:
            self._ledger.shut(place, reason)
        try:
            self._close(connection)
        except Exception as error:  # whatever is wrong with it, it is gone
            log.warning("pool %s: closing a connection (%s) failed: %r", self.name, reason, error)

    def _reclaim(self) -> None:
        """Close the connections whose borrowers were collected as garbage."""
        while self._abandoned:
            try:
                place = self._abandoned.popleft()
            except IndexError:  # another thread was faster
                return
            if place.holder is None:  # as in ``_take_back``
                continue
            with self._lock:
                self._ledger.abandoned()
            report_abandoned(self.name, place, self._now_s())
            self._discard(place, "abandoned")

    def _warm_up(self) -> None:
        while True:
            with self._lock:
                place = self._ledger.warm_up(WARMING, self._now_s())
            if place is None:
                return
            try:
                self._open(place)
            except Exception as error:  # a borrower will see it; here it is tried again with the next maintenance
                self._discard(place, "broken")
                log.warning("pool %s: no connection to keep warm: %r", self.name, error)
                return
            except BaseException:  # Ctrl-C in its owner's ``maintain``
                self._discard(place, "broken")
                raise
            self._pass_on(place)

    def _look_after_itself(self) -> None:
        every_s = self._limits.maintain_every_s
        if every_s is None or self._keeper:
            return
        with self._lock:
            if self._keeper is None and not self._ledger.closed:
                keeper = threading.Thread(target=self._keep, args=(every_s,), name=f"pool {self.name}", daemon=True)
                keeper.start()
                self._keeper = keeper

    def _keep(self, every_s: float) -> None:
        self._warm_up()
        while not self._closing.wait(every_s):
            self.maintain()


def _nothing(_error: BaseException) -> bool:
    return False
