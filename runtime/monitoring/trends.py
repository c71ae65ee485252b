"""Where a series of measurements goes, and where it jumped. Both look at ranks: a few outliers change nothing.

Both take the values to be independent of each other. Latencies of neighbouring windows seldom are on a busy machine, so
there the rates below are somewhat higher; a minimum effect keeps what is significant and does not matter.
"""

import math
from collections.abc import Sequence
from statistics import median
from typing import Final

from msgspec import Struct

from runtime.monitoring.intervals import CONFIDENCE, Interval, normal_quantile

#: The probability that a quiet series is said to have jumped.
FALSE_ALARM: Final = 0.01
#: Pettitt's test can't be so sure of fewer.
FEWEST: Final = 16
#: A jump is told where this many values follow and precede it: fewer may be a passing disturbance.
SHORTEST: Final = 5
#: A median that moves by less does not matter to anybody.
LEAST_EFFECT: Final = 0.05


class ChangePoint(Struct, frozen=True):
    """The value at ``index`` is the first of the new level; ``p`` is the probability of that in a quiet series."""

    index: int
    before: float
    after: float
    p: float


def slope(times_s: Sequence[float], values: Sequence[float], confidence: float = CONFIDENCE) -> Interval | None:
    """The change per second: the median of the slopes of all pairs, with its interval.

    None of so few values (four) that it would have no bounds.

    Theil (1950) and Sen (Estimates of the regression coefficient based on Kendall's tau, JASA 63, 1968): the interval
    is that of Kendall's statistic, without a correction for ties, so it is rather too wide.
    """
    slopes = sorted(
        (values[later] - values[earlier]) / (times_s[later] - times_s[earlier])
        for earlier in range(len(values))
        for later in range(earlier + 1, len(values))
        if times_s[later] > times_s[earlier]
    )
    count = len(values)
    reach = normal_quantile(confidence) * math.sqrt(count * (count - 1) * (2 * count + 5) / 18)
    low = math.floor((len(slopes) - reach) / 2) - 1
    if low < 0:
        return None
    return Interval(median(slopes), slopes[low], slopes[len(slopes) - 1 - low])


def change_points(
    values: Sequence[float], false_alarm: float = FALSE_ALARM, least_effect: float = LEAST_EFFECT
) -> list[ChangePoint]:
    """The jumps of a series, in order: a quiet one of any distribution has one with probability ``false_alarm``.

    Pettitt's test (A non-parametric approach to the change-point problem, Applied Statistics 28, 1979), then again on
    either side (binary segmentation: Scott and Knott, 1974). Levels that differ by less than ``least_effect`` of the
    lower one are not told.
    """
    return [
        point
        for point in _segment(values, 0, false_alarm)
        if abs(point.after - point.before) >= least_effect * min(abs(point.after), abs(point.before))
    ]


def _segment(values: Sequence[float], first: int, false_alarm: float) -> list[ChangePoint]:
    if len(values) < FEWEST:
        return []
    split, p = _pettitt(values)
    if p > false_alarm or not SHORTEST <= split <= len(values) - SHORTEST:
        return []
    before, after = values[:split], values[split:]
    here = ChangePoint(first + split, median(before), median(after), p)
    return [*_segment(before, first, false_alarm), here, *_segment(after, first + split, false_alarm)]


def _pettitt(values: Sequence[float]) -> tuple[int, float]:
    """Where the ranks before differ most from those behind, and how probable that is in a quiet series."""
    count = len(values)
    statistic = most = split = 0.0
    for place, rank in enumerate(_ranks(values), 1):
        statistic += 2 * rank - count - 1
        if abs(statistic) > most:
            most, split = abs(statistic), place
    p = 2 * math.exp(-6 * most**2 / (count**3 + count**2))
    return int(split), min(1.0, p)


def _ranks(values: Sequence[float]) -> list[float]:
    """From 1; equal values share the middle of their ranks."""
    order = sorted(range(len(values)), key=values.__getitem__)
    ranks = [0.0] * len(values)
    place = 0
    while place < len(order):
        end = place
        while end < len(order) and values[order[end]] == values[order[place]]:
            end += 1
        for index in order[place:end]:
            ranks[index] = (place + 1 + end) / 2
        place = end
    return ranks
