"""What ``@monitor_performance`` adds to a call, with the folding of what it notes."""

import asyncio
import functools
from collections.abc import Callable, Iterator
from itertools import repeat
from statistics import median
from time import perf_counter, thread_time
from typing import Any, Final

from prometheus_client import CollectorRegistry, Histogram

from benchmarks.figure import RUNS, Bar, Figure, compare
from runtime.monitoring import Operations

NAME: Final = "monitoring.overhead"
BAR_US: Final = 1.5
CALLS: Final = 4_096
#: Differences a run.
ROUNDS: Final = 30

Function = Callable[[int], Any]


def measure() -> Iterator[Figure]:
    """Microseconds a call beyond those of the function alone, beside the bar and others that measure less."""
    histogram = Histogram("calls_seconds", "Calls.", registry=CollectorRegistry())
    runs = [
        _added_us(nothing, [monitored(nothing), looked_at(nothing), histogram.time()(nothing)]) for _ in range(RUNS)
    ]
    ours, bare, peer = ([run[place] for run in runs] for place in range(3))
    bar = [BAR_US] * RUNS
    yield compare(
        NAME, "µs of processor time a call of a function", Bar("at most", 1.0), ours, bar, f"the bar, {BAR_US:g} µs"
    )
    waits = [_added_us(nothing_later, [monitored(nothing_later)])[0] for _ in range(RUNS)]
    yield compare(
        NAME,
        "µs of processor time a call of a coroutine function",
        Bar("at most", 1.0),
        waits,
        bar,
        f"the bar, {BAR_US:g} µs",
    )
    yield compare(
        NAME,
        "µs of processor time a call of a function",
        Bar("at most", 5.0),
        ours,
        bare,
        "a bare wrapper with two looks at the clock",
    )
    yield compare(
        NAME,
        "µs of processor time a call of a function",
        Bar("at most", 0.5),
        ours,
        peer,
        "prometheus_client, Histogram.time()",
    )


def nothing(number: int) -> int:
    """A function."""
    return number


async def nothing_later(number: int) -> int:
    """A coroutine function."""
    return number


def monitored(function: Function) -> Function:
    """As Headrace measures it, under operations of its own."""
    return Operations().monitor("benchmark")(function)


def looked_at(function: Function) -> Function:
    """The least that a decorator which measures can do."""

    @functools.wraps(function)
    def measured(*args: Any, **options: Any) -> Any:
        begun_s = perf_counter()
        answer = function(*args, **options)
        perf_counter() - begun_s
        return answer

    return measured


def _added_us(function: Function, measured: list[Function]) -> list[float]:
    """What each of these adds to a call of the function, all in turns."""
    timed = _timed_later if asyncio.iscoroutinefunction(function) else _timed
    rounds = []
    for _ in range(ROUNDS):
        alone_us = timed(function)
        rounds.append([timed(other) - alone_us for other in measured])
    return [median(values) for values in zip(*rounds, strict=True)]


def _timed(function: Function) -> float:
    begun_s = thread_time()
    for _ in repeat(None, CALLS):
        function(1)
    return (thread_time() - begun_s) / CALLS * 1e6


def _timed_later(function: Function) -> float:
    async def run() -> float:
        begun_s = thread_time()
        for _ in repeat(None, CALLS):
            await function(1)
        return (thread_time() - begun_s) / CALLS * 1e6

    return asyncio.run(run())
