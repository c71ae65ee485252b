"""From marks to scores: means, intervals, the comparison with a baseline, and the gate's verdict."""

from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np

from schemas.requests import Gate, Metric
from schemas.results import Comparison, GateVerdict, Score
from workers.evaluation.bootstrap import Numbers, interval, resampled_sums
from workers.evaluation.marks import Mark, statistic


@dataclass(frozen=True)
class Marks:
    """The marks of every example for each metric, of the model and of the baseline where there is one."""

    metrics: tuple[Metric, ...]
    compared: bool
    #: Side by side, 8 bytes each: a list an example, of floats, would take five times as much.
    _numbers: "array[float]" = field(default_factory=lambda: array("d"))

    @property
    def width(self) -> int:
        """Numbers of an example."""
        return 2 * len(self.metrics) * (1 + self.compared)

    def __len__(self) -> int:
        return len(self._numbers) // self.width

    def add(self, marks: Sequence[Mark]) -> None:
        """One example's marks: the model's for each metric, then the baseline's."""
        assert len(marks) == len(self.metrics) * (1 + self.compared)
        self._numbers.extend(number for mark in marks for number in (mark.total, mark.weight))

    def extend(self, rows: Iterable[Sequence[float]]) -> None:
        """Append rows as they are in ``rows``."""
        for row in rows:
            assert len(row) == self.width
            self._numbers.extend(row)

    @property
    def rows(self) -> Numbers:
        """A row an example: total and weight of each metric, the model's first, then the baseline's. A copy."""
        return np.array(self._numbers).reshape(-1, self.width)

    def scores(self, seed: int, check: Callable[[], None]) -> tuple[Score, ...]:
        """A score a metric, in the order of ``metrics``; the same for the same seed. Takes seconds, blocking."""
        values = self.rows
        resampled = resampled_sums(values, seed, check)
        return tuple(self._score(column, values, resampled) for column in range(len(self.metrics)))

    def _score(self, column: int, values: Numbers, resampled: Numbers) -> Score:
        metric = self.metrics[column]
        model = _Figures.of(metric, column, values, resampled)
        if not self.compared:
            return Score(metric=metric, model=interval(model.mean, model.means))
        baseline = _Figures.of(metric, column + len(self.metrics), values, resampled)
        return Score(
            metric=metric, model=interval(model.mean, model.means), comparison=_compare(metric, model, baseline)
        )


@dataclass(frozen=True)
class _Figures:
    """A metric of one model: over all examples, of each example, and of each resample."""

    mean: float
    each: Numbers
    means: Numbers

    @classmethod
    def of(cls, metric: Metric, column: int, values: Numbers, resampled: Numbers) -> Self:
        mean = _statistic(metric, values.sum(axis=0, keepdims=True), column).item()
        return cls(mean, _statistic(metric, values, column), _statistic(metric, resampled, column))


def _compare(metric: Metric, model: _Figures, baseline: _Figures) -> Comparison:
    difference = interval(model.mean - baseline.mean, model.means - baseline.means)
    gains = (model.each - baseline.each) * sign(metric)
    wins, losses = int((gains > 0).sum()), int((gains < 0).sum())
    return Comparison(
        baseline=interval(baseline.mean, baseline.means),
        difference=difference,
        wins=wins,
        losses=losses,
        ties=len(gains) - wins - losses,
        significant=difference.low > 0 or difference.high < 0,
    )


def sign(metric: Metric) -> int:
    """1 where more is better, -1 where less is."""
    return -1 if metric is Metric.PERPLEXITY else 1


def judge(gate: Gate, scores: Sequence[Score]) -> GateVerdict:
    """Whether every condition of the gate holds; the reason names those that do not, or else all."""
    score = next(score for score in scores if score.metric is gate.metric)
    conditions: list[tuple[bool, str]] = []
    mean = score.model.mean
    if gate.minimum is not None:
        conditions.append((mean >= gate.minimum, f"{gate.metric} is {mean:.6g}, the minimum {gate.minimum:g}"))
    if gate.maximum is not None:
        conditions.append((mean <= gate.maximum, f"{gate.metric} is {mean:.6g}, the maximum {gate.maximum:g}"))
    if gate.better_than_baseline and score.comparison is not None:
        conditions.append(_better(score.metric, score.comparison))
    failed = [reason for holds, reason in conditions if not holds]
    return GateVerdict(passed=not failed, reason="; ".join(failed or [reason for _, reason in conditions]))


def _better(metric: Metric, comparison: Comparison) -> tuple[bool, str]:
    difference = comparison.difference
    better = comparison.significant and difference.mean * sign(metric) > 0
    return better, (
        f"{metric} minus the baseline's is {difference.mean:.6g}, with 95 % confidence from "
        f"{difference.low:.6g} to {difference.high:.6g}"
    )


def _statistic(metric: Metric, sums: Numbers, column: int) -> Numbers:
    """The metric of each row of sums of totals and weights."""
    return statistic(metric, sums[:, 2 * column] / sums[:, 2 * column + 1])
