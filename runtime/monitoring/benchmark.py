"""How long a function takes, and whether another takes longer: ``benchmark(fn)``, ``compare(ours, peer)``.

The samples of one process are alike in what differs between processes (the layout of memory, hashes, what else runs:
Georges, Buytaert and Eeckhout, Statistically rigorous Java performance evaluation, OOPSLA 2007). So an interval tells
of this process alone, and times of two processes that differ by less than ``LEAST_EFFECT`` count as the same.
"""

import gc
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import repeat
from statistics import median
from time import perf_counter
from typing import Final, Literal

from msgspec import Struct

from runtime.monitoring.intervals import Interval, median_interval, ratio_interval
from runtime.monitoring.machine import machine

#: Long enough that the clock (0.1 µs a look) and the loop around the calls do not show.
SAMPLE_S: Final = 0.002
SAMPLES: Final = 40
#: The fewest that a median's interval at 99 % can be told from.
FEWEST: Final = 8
#: A measurement ends by then, with as many samples as there are, but at least ``FEWEST``.
LASTS_S: Final = 5.0
WARM_UP_S: Final = 1.0
#: Warm once the median of so many samples is within so much of that of those before.
GROUP: Final = 5
STABLE: Final = 0.02
#: Of the interval that a verdict rests on: of a hundred comparisons of equal functions, one may err.
SURE: Final = 0.99
#: Medians that differ by less are taken for equal.
LEAST_EFFECT: Final = 0.05
#: Modified z-scores beyond this are outliers (Iglewicz and Hoaglin, How to detect and handle outliers, 1993).
OUTLYING: Final = 3.5
_MAD_TO_DEVIATION: Final = 0.6745

Verdict = Literal["slower", "faster", "same", "unknown"]


class Measurement(Struct, frozen=True, kw_only=True):
    """Seconds a call. Outliers are counted, and are among the samples: they are part of what the function does.

    The loop around the calls, about 15 ns each, is in the figures.
    """

    name: str
    #: The median of the samples, with its interval at 95 %.
    call_s: Interval
    samples_s: tuple[float, ...]
    outliers: int
    calls_per_sample: int
    warm_up_s: float
    #: Whether it was warm when the measurement began, and not merely out of time.
    stable: bool
    machine: str
    at: datetime


class Comparison(Struct, frozen=True, kw_only=True):
    """``ratio``: how many times as long ours takes, with its interval at 99 %; none where it would mean nothing.

    ``verdict`` is of ours: ``slower`` only where the whole interval is above 1, and the ratio by the least effect.
    """

    name: str
    ratio: Interval | None
    verdict: Verdict
    reason: str


def benchmark(
    function: Callable[[], object],
    name: str = "",
    *,
    samples: int = SAMPLES,
    lasts_s: float = LASTS_S,
    warm_up_s: float = WARM_UP_S,
    clock: Callable[[], float] = perf_counter,
) -> Measurement:
    """Measure a function without arguments; the collector of cycles runs before it, and not meanwhile."""
    with _no_collection():
        warm = _warm_up(function, warm_up_s, clock)
        taken: list[float] = []
        begun_s = clock()
        while len(taken) < max(samples, FEWEST):
            taken.append(_sample(function, warm.calls, clock))
            if len(taken) >= FEWEST and clock() - begun_s >= lasts_s:
                break
    return Measurement(
        name=name or getattr(function, "__qualname__", repr(function)),
        call_s=median_interval(taken),
        samples_s=tuple(taken),
        outliers=sum(outlying(taken)),
        calls_per_sample=warm.calls,
        warm_up_s=warm.took_s,
        stable=warm.stable,
        machine=machine(),
        at=datetime.now(UTC),
    )


def compare(
    ours: Callable[[], object],
    peer: Callable[[], object],
    name: str = "",
    *,
    samples: int = SAMPLES,
    lasts_s: float = 2 * LASTS_S,
    warm_up_s: float = WARM_UP_S,
    least_effect: float = LEAST_EFFECT,
    seed: int = 0,
    clock: Callable[[], float] = perf_counter,
) -> Comparison:
    """Measure two functions in turns: whatever slows the machine slows both. Which is first in a pair is drawn."""
    order = random.Random(seed)
    ratios: list[float] = []
    with _no_collection():
        our_calls = _warm_up(ours, warm_up_s / 2, clock).calls
        peer_calls = _warm_up(peer, warm_up_s / 2, clock).calls
        begun_s = clock()
        while len(ratios) < max(samples, FEWEST):
            if order.random() < 0.5:
                ours_s = _sample(ours, our_calls, clock)
                peer_s = _sample(peer, peer_calls, clock)
            else:
                peer_s = _sample(peer, peer_calls, clock)
                ours_s = _sample(ours, our_calls, clock)
            ratios.append(ours_s / peer_s)
            if len(ratios) >= FEWEST and clock() - begun_s >= lasts_s:
                break
    return judged(name, median_interval(ratios, SURE), least_effect)


def compare_with(baseline: Measurement, fresh: Measurement, least_effect: float = LEAST_EFFECT) -> Comparison:
    """Compare a measurement with an earlier one of the same machine; times of another one tell nothing."""
    if baseline.machine != fresh.machine:
        reason = (
            f"Measured on another machine ({baseline.machine}, now {fresh.machine}), so the ratio of the times would "
            "be that of the machines. Save a baseline on this one, or compare two functions in turns."
        )
        return Comparison(name=fresh.name, ratio=None, verdict="unknown", reason=reason)
    return judged(fresh.name, ratio_interval(fresh.samples_s, baseline.samples_s, SURE), least_effect)


def judged(name: str, ratio: Interval, least_effect: float) -> Comparison:
    """The verdict on a ratio of times: significant, and large enough to matter."""
    verdict: Verdict = "same"
    if ratio.low > 1 and ratio.value > 1 + least_effect:
        verdict = "slower"
    elif ratio.high < 1 and ratio.value < 1 / (1 + least_effect):
        verdict = "faster"
    reason = f"{ratio.value:.3f} times as long ({ratio.low:.3f} to {ratio.high:.3f}), least effect {least_effect:.0%}"
    return Comparison(name=name, ratio=ratio, verdict=verdict, reason=reason)


def outlying(values: Sequence[float]) -> list[bool]:
    """Which of the values lie apart: their distance from the median is more than 3.5 deviations, by the MAD."""
    middle = median(values)
    distances = [abs(value - middle) for value in values]
    spread = median(distances)
    # Where more than half are equal there is no spread to measure by: all others lie apart.
    return [_MAD_TO_DEVIATION * distance > OUTLYING * spread for distance in distances]


class _Warm(Struct, frozen=True):
    calls: int
    took_s: float
    stable: bool


def _warm_up(function: Callable[[], object], most_s: float, clock: Callable[[], float]) -> _Warm:
    """Find how many calls make a sample, then take samples until they no longer change."""
    begun_s, calls = clock(), 1
    while (took_s := _sample(function, calls, clock) * calls) < SAMPLE_S:
        calls *= 2 if took_s * 10 > SAMPLE_S else 10
    before = None
    while True:
        here = median(_sample(function, calls, clock) for _ in range(GROUP))
        stable = before is not None and abs(here - before) <= STABLE * before
        if stable or clock() - begun_s >= most_s:
            return _Warm(calls, clock() - begun_s, stable)
        before = here


def _sample(function: Callable[[], object], calls: int, clock: Callable[[], float]) -> float:
    """Seconds a call."""
    begun_s = clock()
    for _ in repeat(None, calls):
        function()
    return (clock() - begun_s) / calls


@contextmanager
def _no_collection() -> Iterator[None]:
    """As ``timeit`` does, but for one collection before: what others left behind is not the function's."""
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
