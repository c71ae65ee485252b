"""From a strike to what it does: each fault is a block in which it holds, undone at the block's end."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager, contextmanager, suppress
from typing import Final

from tests.acceptance.faults import clocks, disks, network, servers
from tests.acceptance.faults.crashes import Point
from tests.acceptance.faults.evidence import Unreached
from tests.acceptance.faults.load import Flavour, Load
from tests.acceptance.faults.network import Direction
from tests.acceptance.faults.schedule import BROKERS, DISPATCHERS, WORKERS, Fault, Strike
from tests.acceptance.faults.stack import EXTRA_DISPATCHERS, GROUPS, FaultStack

LATENCY_S: Final = 0.15
HOUR_S: Final = 3_600
#: A dispatcher of the storm stays for so long, about until it has its partitions.
STAY_S: Final = 2.5
REORDERED_JOBS: Final = 20

#: Faults at which no execution may be lost: whatever they strike has no part in a lease, or lasts shorter than one.
HARMLESS: Final = frozenset({
    Fault.LATENCY, Fault.CLOCK_AHEAD, Fault.CLOCK_BACK, Fault.FLUSH_ALL, Fault.WRONG_BYTES,
    Fault.TERMINATE_BACKENDS, Fault.KILL_BACKEND, Fault.DUPLICATES, Fault.REORDERED, Fault.TOMBSTONES,
    Fault.GIANTS, Fault.GARBAGE, Fault.AFTER_ADMISSION, Fault.AFTER_PRODUCE, Fault.AFTER_OFFSETS,
    # Poison is known by its executions.
    Fault.POISON,
})  # fmt: skip


def workers_struck(strike: Strike) -> frozenset[str]:
    """The workers whose jobs in flight the fault may cost their attempt.

    A server or a dispatcher that is away for longer than a lease can cost anybody's: what it was to
    pass on comes late, under a lease that another attempt has by then.
    """
    if strike.fault in HARMLESS or strike.target == "redis":
        return frozenset()
    if strike.fault is Fault.RESTART and strike.target in DISPATCHERS:
        # Told to stop, it leaves nothing behind that anybody waits for.
        return frozenset()
    process = strike.target.partition(":")[0]
    return frozenset({process}) if process in WORKERS else frozenset(WORKERS)


@asynccontextmanager
async def inflicted(strike: Strike, stack: FaultStack, load: Load) -> AsyncIterator[None]:
    """The fault, for the block."""
    async with AsyncExitStack() as undoing:
        match strike.fault:
            case Fault.KILL:
                await undoing.enter_async_context(stack.members[strike.target].down())
            case Fault.FREEZE:
                await undoing.enter_async_context(stack.members[strike.target].frozen())
            case Fault.RESTART:
                await undoing.enter_async_context(stack.members[strike.target].away())
            case Fault.TWO_BROKERS:
                for broker in strike.target.split("+"):
                    await undoing.enter_async_context(stack.members[broker].down())
            case Fault.STORM:
                await undoing.enter_async_context(_storm(stack))
            case Fault.FSYNC_ERRORS:
                family = stack.members[strike.target].family()
                if not await undoing.enter_async_context(servers.failing_fsync(family)):
                    stack.impotent.append(f"{strike.fault} of {strike.target}")
            case Fault.KILL_BACKEND:
                await asyncio.to_thread(servers.kill_backend, stack.dsn)
            case Fault.TERMINATE_BACKENDS:
                await asyncio.to_thread(servers.terminate_backends, stack.dsn)
            case Fault.FLUSH_ALL:
                await asyncio.to_thread(servers.flush_redis, stack.servers["HEADRACE_REDIS"])
            case Fault.WRONG_BYTES:
                await asyncio.to_thread(servers.spoil_redis, stack.servers["HEADRACE_REDIS"])
            case Fault.REORDERED:
                load.reordered(REORDERED_JOBS)
            case Fault.GARBAGE:
                load.garbage()
                undoing.enter_context(load.burst(Flavour.UNREADABLE, Flavour.INVALID))
            case Fault.POISON:
                load.once(Flavour.POISON)
            case _:
                undoing.enter_context(_simple(strike, stack, load))
        yield


def _simple(strike: Strike, stack: FaultStack, load: Load) -> AbstractContextManager[None]:
    """Faults that are begun and undone at once."""
    target, (process, _, server) = strike.target, strike.target.partition(":")
    match strike.fault:
        case Fault.AFTER_CLAIM:
            return _armed(stack, target, Point.CLAIM)
        case Fault.AFTER_COMPUTE:
            return _armed(stack, target, Point.COMPUTE)
        case Fault.AFTER_COMMIT:
            return _armed(stack, target, Point.COMMIT)
        case Fault.AFTER_LEASE:
            return _armed(stack, target, Point.LEASE)
        case Fault.AFTER_ADMISSION:
            return _armed(stack, target, Point.ADMISSION)
        case Fault.AFTER_PRODUCE:
            return _armed(stack, target, Point.PRODUCE)
        case Fault.AFTER_OFFSETS:
            return _armed(stack, target, Point.OFFSETS)
        case Fault.CUT if server == "peers":
            return _without_peers(stack, process)
        case Fault.CUT:
            return network.cut(GROUPS[process], stack.ports(server), Direction.BOTH)
        case Fault.CUT_REQUESTS:
            return network.cut(GROUPS[process], stack.ports(server), Direction.REQUESTS)
        case Fault.CUT_REPLIES:
            return network.cut(GROUPS[process], stack.ports(server), Direction.REPLIES)
        case Fault.BLACKHOLE:
            return network.blackhole(GROUPS[process], stack.ports(server))
        case Fault.LOSS:
            return network.loss(stack.ports(target))
        case Fault.RESET:
            return network.resets(stack.ports(target))
        case Fault.THROTTLE:
            return network.throttle()
        case Fault.LATENCY:
            return stack.proxies[target].latency(LATENCY_S)
        case Fault.DISK_FULL:
            return disks.full(stack.disk(target))
        case Fault.CLOCK_AHEAD:
            return clocks.jump(stack.clock(target), HOUR_S)
        case Fault.CLOCK_BACK:
            return clocks.jump(stack.clock(target), -HOUR_S)
        case Fault.DUPLICATES:
            return load.burst(Flavour.REPEAT, Flavour.REPEAT, Flavour.REPEAT, Flavour.CONFLICT)
        case Fault.TOMBSTONES:
            return load.burst(Flavour.TOMBSTONE)
        case Fault.GIANTS:
            return load.burst(Flavour.GIANT, Flavour.TOO_GIANT)
        case other:
            raise AssertionError(f"{other} is made elsewhere")


@contextmanager
def _armed(stack: FaultStack, target: str, point: Point) -> Iterator[None]:
    file = stack.crash_file(target)
    unfinished = file.with_suffix(".new")
    unfinished.write_text(point)
    unfinished.rename(file)
    begun_s = time.monotonic()
    try:
        yield
    finally:
        ended_s = time.monotonic()
        with suppress(FileNotFoundError):
            file.unlink()
            stack.unreached.append(Unreached(target, point, begun_s, ended_s))


@contextmanager
def _without_peers(stack: FaultStack, broker: str) -> Iterator[None]:
    """A broker that clients reach, and the other brokers don't, nor it them."""
    others = [name for name in BROKERS if name != broker]
    with (
        network.cut(GROUPS[broker], [port for name in others for port in stack.listeners[name]], Direction.BOTH),
        network.cut(GROUPS[others[0]], stack.listeners[broker], Direction.BOTH),
        network.cut(GROUPS[others[1]], stack.listeners[broker], Direction.BOTH),
    ):
        yield


@asynccontextmanager
async def _storm(stack: FaultStack) -> AsyncIterator[None]:
    """Dispatchers that join and leave in turn."""
    over = asyncio.Event()

    async def come_and_go(name: str, after_s: float) -> None:
        stay_s = after_s
        while not await _within(stay_s, over):
            async with stack.joined(name):
                stay_s = 0.0
                await _within(STAY_S, over)

    storming = [
        asyncio.create_task(come_and_go(name, number * STAY_S / 2)) for number, name in enumerate(EXTRA_DISPATCHERS)
    ]
    try:
        yield
    finally:
        # Told, not cancelled: who comes has to go first.
        over.set()
        await asyncio.gather(*storming)


async def _within(seconds: float, event: asyncio.Event) -> bool:
    """Wait for an event, but no longer than so many seconds; whether it came."""
    with suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)
    return event.is_set()
