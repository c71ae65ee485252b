"""Devices and their memory, reserved before they are used: for threads and for tasks, from the same budget.

It knows devices as plain numbers, and allocates nothing: who reserved and takes more is not stopped, and who loads a
model without a reservation is not seen. Streams are made by whoever knows how.
"""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from threading import get_ident
from types import TracebackType
from typing import Final, Generic, TypeVar

from runtime.pools.budgets import Budgets, Claim, Device, DevicePoolStats
from runtime.pools.errors import Holding, PoolMisused, PoolOverloaded, PoolTimeout, ReservationTooLarge
from runtime.pools.forks import tell_of_forks
from runtime.pools.holders import named

Stream = TypeVar("Stream")

log = logging.getLogger(__name__)

NAME: Final = "devices"
TIMEOUT_S: Final = 60.0
WAITING: Final = 1_000
#: How often one who waits looks for reservations that were dropped.
LOOK_S: Final = 1.0


class Reservation(Generic[Stream]):
    """Memory of one device until it is released: ``with pool.reserve(…) as reservation``.

    ``stream`` is the reservation's own as long as it lasts; None where the pool was given no way to make any.
    Its release waits for the stream's work: in an event loop, let that end before the block does.
    """

    __slots__ = ("_claim", "_pool", "device", "memory_bytes", "stream")

    def __init__(self, pool: "DevicePool[Stream]", claim: Claim, device: Device, stream: Stream | None) -> None:
        self._pool = pool
        self._claim: Claim | None = claim
        self.device = device
        self.memory_bytes = claim.bytes_on(device)
        self.stream = stream

    def release(self) -> None:
        """The memory is for the next, once the stream's work is done. A second time does nothing."""
        claim, self._claim = self._claim, None
        if claim is not None:
            self._pool._release(claim, self.device, self.stream)

    def __enter__(self) -> "Reservation[Stream]":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.release()

    def __del__(self) -> None:
        # The collector may call this in any thread, also in one that has the pool's lock.
        if self._claim is not None:
            self._pool._abandoned.append(self._claim)


class DevicePool(Generic[Stream]):
    """The memory of this process' devices; without CUDA, one of kind ``cpu`` with a budget.

    ``open_stream`` makes a stream on a device, and ``finish`` waits until a stream's work is done; streams are used
    again. Who waits is served in turn. A forked process may not reserve: its parent has the devices. With torch, in a
    worker::

        DevicePool(devices, lambda device: torch.cuda.Stream(device.index), lambda stream: stream.synchronize())
    """

    def __init__(
        self,
        devices: Sequence[Device],
        open_stream: Callable[[Device], Stream] | None = None,
        finish: Callable[[Stream], None] | None = None,
        *,
        waiting: int = WAITING,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        if len({(device.kind, device.index) for device in devices}) != len(devices):
            raise ValueError(f"a device is named twice: {', '.join(map(str, devices))}")
        self._open_stream = open_stream
        self._finish = finish
        self._may_wait = waiting
        self._now_s = now_s
        self._lock = threading.Lock()
        self._budgets = Budgets(devices)
        self._streams: dict[Device, list[Stream]] = {device: [] for device in devices}
        self._abandoned: deque[Claim] = deque()
        self._foreign = False
        tell_of_forks(self)

    def reserve(
        self, memory_bytes: int | None, *, index: int | None = None, timeout_s: float = TIMEOUT_S
    ) -> Reservation[Stream]:
        """Reserve memory of one device, the device ``index`` if given; ``None``: a whole device, for nobody else.

        Blocks its thread. Of several devices it is the one that has the least left then.

        Raises:
            ReservationTooLarge: no device has so much in all (final).
            PoolTimeout: not in time (retryable).
            PoolOverloaded: too many wait already (retryable).
            PoolMisused: in a forked process (final).
        """
        signal = threading.Lock()
        signal.acquire()

        def wake() -> bool:
            signal.release()
            return True

        claim = self._ask(memory_bytes, index, get_ident(), wake)
        try:
            ends_s = time.monotonic() + timeout_s
            while claim.device is None and (left_s := ends_s - time.monotonic()) > 0:
                signal.acquire(timeout=min(left_s, LOOK_S))
                self._reclaim()
            return self._settle(claim, timeout_s)
        except BaseException:
            self._leave(claim)
            raise

    async def reserve_async(
        self, memory_bytes: int | None, *, index: int | None = None, timeout_s: float = TIMEOUT_S
    ) -> Reservation[Stream]:
        """As ``reserve``, without blocking the loop: ``with await pool.reserve_async(…) as reservation``.

        A task that is cancelled while it waits, or in the moment in which it is granted its memory, holds nothing.
        """
        loop = asyncio.get_running_loop()
        granted = asyncio.Event()

        def wake() -> bool:
            try:
                loop.call_soon_threadsafe(granted.set)
            except RuntimeError:  # the loop is closed
                return False
            return True

        claim = self._ask(memory_bytes, index, asyncio.current_task(), wake)
        try:
            ends_s = loop.time() + timeout_s
            while claim.device is None and (left_s := ends_s - loop.time()) > 0:
                try:
                    async with asyncio.timeout(min(left_s, LOOK_S)):
                        await granted.wait()
                except TimeoutError:
                    self._reclaim()
            return self._settle(claim, timeout_s)
        except BaseException:
            self._leave(claim)
            raise

    def stats(self) -> DevicePoolStats:
        """The pool's numbers of this moment."""
        self._reclaim()
        with self._lock:
            return self._budgets.stats()

    def holdings(self) -> list[Holding]:
        """Who has how much of which device, and for how long."""
        now_s = self._now_s()
        with self._lock:
            held = list(self._budgets.held.items())
        return [
            Holding(named(claim.holder), now_s - since_s, f"{claim.bytes_on(claim.device):,} bytes of {claim.device}")
            for claim, since_s in held
            if claim.device is not None
        ]

    def forked(self) -> None:
        """In a child: reserve nothing. What the parent has reserved is reserved still."""
        self._foreign = True
        self._lock = threading.Lock()

    def _ask(self, memory_bytes: int | None, index: int | None, holder: object, wake: Callable[[], bool]) -> Claim:
        if self._foreign:
            raise PoolMisused("A forked process can't reserve its parent's devices. Start it anew (spawn).")
        if memory_bytes is not None and memory_bytes < 0:
            raise ValueError(f"a reservation of {memory_bytes} bytes: it is at least 0")
        self._reclaim()
        claim = Claim(memory_bytes, index, holder, self._now_s())
        with self._lock:
            largest_bytes = self._budgets.largest_bytes(index)
            if largest_bytes < (memory_bytes or 0) or not largest_bytes:
                where = "the largest device" if index is None else f"device {index}"
                raise ReservationTooLarge(memory_bytes or 0, largest_bytes, where)
            if self._budgets.ask(claim, claim.since_s):
                return claim
            claim.wake = wake
            overloaded = self._budgets.waiting > self._may_wait
            if overloaded:
                self._budgets.leave(claim, claim.since_s)
                self._budgets.refused += 1
        if overloaded:
            raise PoolOverloaded(NAME, self._may_wait, self._state(), self.holdings())
        return claim

    def _settle(self, claim: Claim, timeout_s: float) -> Reservation[Stream]:
        with self._lock:
            self._budgets.leave(claim, self._now_s())
            device = claim.device
            self._budgets.timeouts += device is None
            streams = self._streams[device] if device else []
            stream = streams.pop() if streams else None
        if device is None:
            raise PoolTimeout(NAME, timeout_s, self._state(), self.holdings())
        if stream is None and self._open_stream is not None:
            stream = self._open_stream(device)
        return Reservation(self, claim, device, stream)

    def _leave(self, claim: Claim) -> None:
        with self._lock:
            self._budgets.leave(claim, self._now_s())
            self._budgets.release(claim, self._now_s())

    def _release(self, claim: Claim, device: Device, stream: Stream | None) -> None:
        if self._foreign:  # the parent's: it releases what it has reserved, and its streams can't be used here
            return
        try:
            if stream is not None and self._finish is not None:
                # What still runs on it uses the memory.
                self._finish(stream)
        except BaseException:
            stream = None  # not for the next
            raise
        finally:
            with self._lock:
                if stream is not None:
                    self._streams[device].append(stream)
                self._budgets.release(claim, self._now_s())

    def _reclaim(self) -> None:
        """Release what was reserved by those who were collected as garbage."""
        while self._abandoned:
            try:
                claim = self._abandoned.popleft()
            except IndexError:  # another thread was faster
                return
            log.warning("pool %s: %s dropped a reservation on %s unreleased", NAME, named(claim.holder), claim.device)
            with self._lock:
                self._budgets.abandoned += 1
                self._budgets.release(claim, self._now_s())

    def _state(self) -> str:
        stats = self.stats()
        devices = "; ".join(
            f"{each.device} has {each.device.memory_bytes - each.reserved_bytes:,} of "
            f"{each.device.memory_bytes:,} bytes free"
            for each in stats.devices
        )
        return f"{devices}; {stats.waiting} waiting"
