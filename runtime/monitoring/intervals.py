"""How sure a number is: confidence intervals that assume no distribution, and Student's t for few values."""

import math
from collections.abc import Sequence
from statistics import NormalDist, median
from typing import Final

from msgspec import Struct

CONFIDENCE: Final = 0.95


class Interval(Struct, frozen=True):
    """An estimate with the bounds of its confidence interval."""

    value: float
    low: float
    high: float


def normal_quantile(confidence: float = CONFIDENCE) -> float:
    """How many standard deviations an interval of this confidence reaches to either side."""
    return NormalDist().inv_cdf((1 + confidence) / 2)


def wilson(hits: int, trials: int, confidence: float = CONFIDENCE) -> Interval:
    """A share with Wilson's score interval (JASA 22, 1927): sound for few trials and for none that hit."""
    if not trials:
        return Interval(0.0, 0.0, 1.0)
    z2 = normal_quantile(confidence) ** 2
    share = hits / trials
    centre = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    reach = math.sqrt(z2 * share * (1 - share) / trials + (z2 / (2 * trials)) ** 2) / (1 + z2 / trials)
    return Interval(share, max(0.0, min(share, centre - reach)), min(1.0, max(share, centre + reach)))


def median_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """The median between two order statistics, which hold it with at least this confidence.

    The number of values below the true median is binomial, whatever they are distributed like (David and Nagaraja,
    Order Statistics, 3rd edition, 7.1). Fewer than six values can't give 95 %: the interval is then without bounds.
    """
    ordered, count = sorted(values), len(values)
    outside, depth = 0.0, 0
    while True:
        outside += 2 * math.comb(count, depth) / 2**count
        if outside > 1 - confidence:
            break
        depth += 1
    if not depth:
        return Interval(median(ordered), -math.inf, math.inf)
    return Interval(median(ordered), ordered[depth - 1], ordered[-depth])


def ratio_interval(ours: Sequence[float], peer: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """How many times as large ours are as the peer's: Hodges and Lehmann's estimate (1963) of the logarithms' shift.

    Its bounds are those shifts which the rank sum test of Wilcoxon does not refute (Hollander, Wolfe and Chicken,
    Nonparametric Statistical Methods, 3rd edition, 4.3), by its normal approximation. All values are positive.
    """
    theirs = [math.log(other) for other in peer]
    shifts = sorted(math.log(mine) - other for mine in ours for other in theirs)
    pairs = len(shifts)
    deviation = math.sqrt(pairs * (len(ours) + len(peer) + 1) / 12)
    depth = math.floor(pairs / 2 - normal_quantile(confidence) * deviation)
    value = math.exp(median(shifts))
    if depth < 1:
        return Interval(value, 0.0, math.inf)
    return Interval(value, math.exp(shifts[depth - 1]), math.exp(shifts[-depth]))


def student_tail(t: float, degrees: int) -> float:
    """The probability that Student's t with so many degrees of freedom is larger than ``t``.

    The finite sums of Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.3 and 26.7.4.
    """
    angle = math.atan(t / math.sqrt(degrees))
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = degrees % 2
    term, series = cosine if odd else 1.0, 0.0
    for step in range(1 + odd, degrees, 2):
        series += term
        term *= cosine * cosine * step / (step + 1)
    within = 2 / math.pi * (angle + sine * series) if odd else sine * series
    return (1 - within) / 2
