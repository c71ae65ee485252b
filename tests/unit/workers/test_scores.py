"""Marks, intervals, comparisons and gates, against values that are known without resampling."""

from collections.abc import Sequence
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import JobCancelled, ModelRejected
from schemas.requests import Gate, Metric
from schemas.results import Comparison, Interval, Score
from workers.engine.losses import Loss
from workers.evaluation import bootstrap
from workers.evaluation.bootstrap import interval, resampled_sums
from workers.evaluation.marks import Answer, Mark, mark
from workers.evaluation.summary import Marks, judge


def go_on() -> None:
    """A job that nobody stops."""


def marks_of(metric: Metric, model: Sequence[Mark], baseline: Sequence[Mark] = ()) -> Marks:
    marks = Marks((metric,), compared=bool(baseline))
    for index, one in enumerate(model):
        marks.add([one, baseline[index]] if baseline else [one])
    return marks


def zero_or_one(*values: int) -> list[Mark]:
    return [Mark(float(value)) for value in values]


@pytest.mark.parametrize(
    ("text", "expected", "score"),
    [("2024-05-06", "2024-05-06", 1), (" 2024-05-06\n", "2024-05-06", 1), ("2024-05-6", "2024-05-06", 0), ("", "", 1)],
)
def test_an_exact_match_ignores_white_space_at_the_ends_alone(text: str, expected: str, score: int) -> None:
    assert mark(Metric.EXACT_MATCH, Answer(text, None), expected) == Mark(score)


def test_chrf_is_100_for_the_same_text_0_for_another_and_between_for_one_alike() -> None:
    same, alike, other = (
        mark(Metric.CHRF, Answer(text, None), "2024-05-06").total for text in ("2024-05-06", "2024-05-16", "xyz")
    )
    assert same == pytest.approx(100)
    assert 0 == other < alike < same


def test_an_example_weighs_in_perplexity_by_its_tokens() -> None:
    marks = marks_of(
        Metric.PERPLEXITY,
        [mark(Metric.PERPLEXITY, Answer(None, loss), "") for loss in (Loss(2.0, 1), Loss(3.0, 9))],
    )
    [score] = marks.scores(0, go_on)
    assert score.model.mean == pytest.approx(np.exp(5.0 / 10))


@pytest.mark.parametrize("nats", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_is_the_models_fault(nats: float) -> None:
    with pytest.raises(ModelRejected, match="broken"):
        mark(Metric.PERPLEXITY, Answer(None, Loss(nats, 3)), "yes")


def test_a_perplexity_beyond_all_numbers_stays_finite() -> None:
    [score] = marks_of(Metric.PERPLEXITY, [Mark(1e6, 1.0)]).scores(0, go_on)
    assert np.isfinite(score.model.high)


@pytest.mark.parametrize(("examples", "right"), [(500, 450), (500, 250), (2_000, 100)])
def test_the_interval_of_a_share_is_near_the_normal_one(examples: int, right: int) -> None:
    marks = marks_of(Metric.EXACT_MATCH, zero_or_one(*([1] * right + [0] * (examples - right))))
    [score] = marks.scores(1, go_on)
    share = right / examples
    half_width = 1.96 * (share * (1 - share) / examples) ** 0.5
    assert score.model.mean == share
    assert score.model.low == pytest.approx(share - half_width, abs=0.1 * half_width)
    assert score.model.high == pytest.approx(share + half_width, abs=0.1 * half_width)


def test_resampled_means_spread_by_the_standard_error() -> None:
    values = np.random.default_rng(0).normal(10, 2, size=(400, 1))
    means = resampled_sums(values, 3, go_on)[:, 0] / 400
    assert len(means) == bootstrap.RESAMPLES
    assert means.mean() == pytest.approx(values.mean(), abs=0.01)
    assert means.std() == pytest.approx(values.std() / 20, rel=0.05)


def test_columns_of_a_resample_are_sums_over_the_same_examples() -> None:
    values = np.random.default_rng(0).normal(size=(50, 1))
    sums = resampled_sums(np.hstack([values, 2 * values, np.ones_like(values)]), 3, go_on)
    assert np.allclose(sums[:, 1], 2 * sums[:, 0])
    assert (sums[:, 2] == 50).all()


def test_a_seed_gives_the_same_interval_and_another_seed_another() -> None:
    marks = marks_of(Metric.CHRF, [Mark(Random(number).random() * 100) for number in range(60)])
    assert marks.scores(5, go_on) == marks.scores(5, go_on) != marks.scores(6, go_on)


@pytest.mark.parametrize(("examples", "resamples"), [(1, 10_000), (100_000, 10_000), (200_000, 5_000), (10**6, 1_000)])
def test_a_very_large_dataset_has_fewer_resamples(examples: int, resamples: int) -> None:
    assert bootstrap.resamples_of(examples) == resamples


def test_a_stopped_job_is_seen_while_resampling() -> None:
    def check() -> None:
        raise JobCancelled("enough")

    with pytest.raises(JobCancelled):
        resampled_sums(np.ones((100, 1)), 0, check)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 100)), min_size=1, max_size=40), st.integers(0, 2**63 - 1))
def test_an_interval_lies_between_the_smallest_and_the_largest_example(
    pairs: list[tuple[float, float]], seed: int
) -> None:
    marks = marks_of(Metric.CHRF, [Mark(mine) for mine, _ in pairs], [Mark(other) for _, other in pairs])
    [score] = marks.scores(seed, go_on)
    comparison = score.comparison
    assert comparison is not None
    mine = [value for value, _ in pairs]
    assert min(mine) - 1e-9 <= score.model.low <= score.model.high <= max(mine) + 1e-9
    assert comparison.wins + comparison.losses + comparison.ties == len(pairs)
    assert comparison.difference.mean == pytest.approx(score.model.mean - comparison.baseline.mean)


def test_a_model_against_itself_only_ties_and_differs_by_nothing() -> None:
    same = zero_or_one(1, 0, 1, 1, 0)
    [score] = marks_of(Metric.EXACT_MATCH, same, same).scores(0, go_on)
    comparison = score.comparison
    assert comparison is not None
    assert (comparison.wins, comparison.losses, comparison.ties, comparison.significant) == (0, 0, 5, False)
    assert comparison.difference == Interval(0.0, 0.0, 0.0)


def test_a_paired_difference_is_surer_than_two_intervals() -> None:
    """Nine of ten examples are equal for both: the pairing takes their spread out."""
    baseline = [Mark(float(number % 100)) for number in range(200)]
    better = [Mark(one.total + (5 if number % 10 == 0 else 0)) for number, one in enumerate(baseline)]
    [score] = marks_of(Metric.CHRF, better, baseline).scores(0, go_on)
    comparison = score.comparison
    assert comparison is not None
    assert comparison.baseline.high > score.model.low  # the intervals overlap
    assert comparison.significant
    assert (comparison.wins, comparison.ties) == (20, 180)


def test_the_smaller_perplexity_wins() -> None:
    model, baseline = [Mark(1.0, 2.0)] * 5, [Mark(3.0, 2.0)] * 5
    [score] = marks_of(Metric.PERPLEXITY, model, baseline).scores(0, go_on)
    comparison = score.comparison
    assert comparison is not None
    assert (comparison.wins, comparison.losses) == (5, 0)
    assert comparison.difference.high < 0
    assert judge(Gate(metric=Metric.PERPLEXITY, better_than_baseline=True), [score]).passed


def score_of(mean: float, difference: tuple[float, float] | None = None, metric: Metric = Metric.EXACT_MATCH) -> Score:
    comparison = difference and Comparison(
        baseline=Interval(0.5, 0.4, 0.6),
        difference=Interval(sum(difference) / 2, *difference),
        wins=1,
        losses=0,
        ties=0,
        significant=difference[0] > 0 or difference[1] < 0,
    )
    return Score(metric=metric, model=Interval(mean, mean, mean), comparison=comparison or None)


@pytest.mark.parametrize(
    ("gate", "score", "passed"),
    [
        (Gate(metric=Metric.EXACT_MATCH, minimum=0.9), score_of(0.9), True),
        (Gate(metric=Metric.EXACT_MATCH, minimum=0.9), score_of(0.89), False),
        (Gate(metric=Metric.PERPLEXITY, maximum=2.0), score_of(2.1, metric=Metric.PERPLEXITY), False),
        (Gate(metric=Metric.EXACT_MATCH, better_than_baseline=True), score_of(0.9, (0.1, 0.3)), True),
        (Gate(metric=Metric.EXACT_MATCH, better_than_baseline=True), score_of(0.9, (-0.1, 0.3)), False),
        (Gate(metric=Metric.EXACT_MATCH, better_than_baseline=True), score_of(0.1, (-0.3, -0.1)), False),
        (Gate(metric=Metric.EXACT_MATCH, minimum=0.95, better_than_baseline=True), score_of(0.9, (0.1, 0.3)), False),
    ],
)
def test_a_gate_passes_if_all_its_conditions_hold(gate: Gate, score: Score, *, passed: bool) -> None:
    assert judge(gate, [score]).passed is passed


def test_a_verdict_names_the_condition_that_does_not_hold_with_its_numbers() -> None:
    gate = Gate(metric=Metric.EXACT_MATCH, minimum=0.95, better_than_baseline=True)
    assert judge(gate, [score_of(0.9, (0.1, 0.3))]).reason == "exact_match is 0.9, the minimum 0.95"


def test_the_interval_of_one_example_is_that_example() -> None:
    [score] = marks_of(Metric.CHRF, [Mark(42.0)]).scores(0, go_on)
    assert score.model == Interval(42.0, 42.0, 42.0)


def test_an_intervals_ends_are_the_percentiles_of_the_resamples() -> None:
    assert interval(0.5, np.arange(1_001, dtype=np.float64)) == Interval(0.5, 25.0, 975.0)
