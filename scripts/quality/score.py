"""One number for the quality of the tests, and the formula that it comes from.

    score = 100 * sum(weight * min(1, value / goal)) / sum(weight)

over the parts that were measured. Of 100 the weights are: branches 30 (they hold what lines hold, and the cases that
nobody thought of), mutants 30 (whether a test notices), lines 20, tests that assert 10, the ratio of tests to source
5, functions that fit on a screen 5. A part that was not measured has no share, and the report tells the weight that
was measured: two scores compare only where it is the same. Below half of the weight there is no score.
"""

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

FORMULA: Final = "score = 100 * sum(weight * min(1, value / goal)) / sum(weight), over the parts that were measured"

#: Without lines and branches, or mutants and most of the rest, the number would only say that files are short.
LEAST_WEIGHT: Final = 50


class Part(Struct, frozen=True):
    """One measure beside its goal. ``value`` is None where it was not measured, and ``note`` then tells why."""

    name: str
    value: float | None
    goal: float
    unit: str
    weight: int
    note: str = ""
    #: Whether missing the goal fails the gate.
    gates: bool = True

    def share(self) -> float | None:
        """How much of the goal is reached, 0 to 1."""
        return None if self.value is None else min(1.0, self.value / self.goal)

    def misses(self) -> bool:
        """Whether it was measured and is below its goal."""
        return self.value is not None and self.value < self.goal


class Score(Struct, frozen=True):
    """``points`` of 100; None where too little was measured. ``measured_weight`` is what they rest on, of 100."""

    points: float | None
    measured_weight: int
    formula: str = FORMULA


def score(parts: Sequence[Part]) -> Score:
    """The weighted score of these parts."""
    measured = [(part.weight, share) for part in parts if (share := part.share()) is not None]
    weight = sum(weight for weight, _ in measured)
    if weight < LEAST_WEIGHT:
        return Score(None, weight)
    return Score(100 * sum(weight * share for weight, share in measured) / weight, weight)
