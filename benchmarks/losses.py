"""Whether a figure has lost against its baseline: by more than its own noise explains, and by enough to matter.

Ratios are compared, ours to the peer's in turns on one machine, so that a slower machine is not taken for slower code.
The logarithms of the runs' ratios are compared by Student's t test (Biometrika 6, 1908) with one variance for both
sides: with three runs a side no test of ranks could be sure of anything, and an outlier widens the variance, so that it
hides a loss sooner than it makes one up. Of many figures each has to be the surer (Holm, Scandinavian Journal of
Statistics 6, 1979): where nothing has changed, one gate in twenty says that some figure was lost.
"""

import math
from collections.abc import Sequence
from statistics import fmean, median
from typing import Final, Literal

from msgspec import Struct
from msgspec.structs import replace

from runtime.monitoring.intervals import student_tail

FALSE_ALARM: Final = 0.05
#: A smaller loss is none. Between machines ratios differ more, for the peer uses the machine in another way.
LEAST_LOSS: Final = 0.10
LEAST_LOSS_ELSEWHERE: Final = 0.30
#: Figures of a virtual clock are the same in each run; a test of no variance would be sure of anything.
LEAST_SPREAD: Final = 0.01

Sense = Literal["at most", "at least"]
Verdict = Literal["lost", "gained", "same", "too few runs"]


class Finding(Struct, frozen=True, kw_only=True):
    """``loss`` 0.5: the median was 1.5 times as good before; ``p``: how probable so much is by chance."""

    baseline: float
    fresh: float
    loss: float
    p: float | None
    verdict: Verdict


def find(sense: Sense, baseline: Sequence[float], fresh: Sequence[float], least_loss: float = LEAST_LOSS) -> Finding:
    """Compare the ratios of runs, as if this were the only figure; they are positive."""
    sign = 1.0 if sense == "at most" else -1.0
    before = [sign * math.log(ratio) for ratio in baseline]
    now = [sign * math.log(ratio) for ratio in fresh]
    moved = median(now) - median(before)
    finding = Finding(baseline=median(baseline), fresh=median(fresh), loss=math.expm1(moved), p=None, verdict="same")
    if abs(moved) <= math.log1p(least_loss):
        return replace(finding, p=_chance(before, now))
    if (p := _chance(before, now)) is None:
        return replace(finding, verdict="too few runs")
    if moved < 0:
        return replace(finding, p=p, verdict="gained" if 1 - p <= FALSE_ALARM else "same")
    return replace(finding, p=p, verdict="lost" if p <= FALSE_ALARM else "same")


def settle(findings: Sequence[Finding]) -> list[Finding]:
    """Judge all figures together: the surest needs the p of one in so many, the next of one in one fewer."""
    settled = list(findings)
    lost = sorted((one.p, place) for place, one in enumerate(findings) if one.verdict == "lost" and one.p is not None)
    for taken, (p, _) in enumerate(lost):
        if p > FALSE_ALARM / (len(findings) - taken):
            for _, place in lost[taken:]:
                settled[place] = replace(findings[place], verdict="same")
            break
    return settled


def _chance(before: Sequence[float], now: Sequence[float]) -> float | None:
    """The probability that so much is lost by chance; none of two runs, which have no variance."""
    degrees = len(before) + len(now) - 2
    if degrees < 1:
        return None
    squares = sum((value - fmean(values)) ** 2 for values in (before, now) for value in values)
    spread = max(math.sqrt(squares / degrees), LEAST_SPREAD)
    t = (fmean(now) - fmean(before)) / (spread * math.sqrt(1 / len(before) + 1 / len(now)))
    return student_tail(t, degrees)
