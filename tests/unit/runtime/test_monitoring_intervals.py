"""Confidence intervals against tables, and against the truth that they should hold."""

import math
import random

import pytest

from runtime.monitoring.intervals import median_interval, ratio_interval, student_tail, wilson

TRIALS = 400


def test_an_error_rate_of_few_calls_is_not_sure() -> None:
    # Wilson's interval of 1 in 10, as tables have it.
    found = wilson(1, 10)
    assert (round(found.value, 3), round(found.low, 3), round(found.high, 3)) == (0.1, 0.018, 0.404)
    assert wilson(0, 10).low == 0
    assert 0.2 < wilson(0, 10).high < 0.3
    assert wilson(0, 0).high == 1


@pytest.mark.parametrize(("count", "depth"), [(6, 1), (9, 2), (20, 6), (40, 14)])
def test_a_median_lies_between_the_order_statistics_of_the_tables(count: int, depth: int) -> None:
    found = median_interval([float(value) for value in range(1, count + 1)])
    assert (found.low, found.high) == (depth, count + 1 - depth)


def test_five_values_do_not_bound_a_median() -> None:
    assert median_interval([1.0, 2.0, 3.0, 4.0, 5.0]).high == math.inf


def test_a_medians_interval_holds_the_true_one_as_often_as_it_says() -> None:
    draw = random.Random(1)
    hits = 0
    for _ in range(TRIALS):
        found = median_interval([draw.lognormvariate(0, 1) for _ in range(25)])
        hits += found.low <= 1 <= found.high
    assert 0.93 <= hits / TRIALS <= 0.99


def test_a_ratios_interval_holds_the_true_one_as_often_as_it_says() -> None:
    draw = random.Random(2)
    hits = 0
    for _ in range(TRIALS):
        ours = [1.2 * draw.lognormvariate(0, 0.1) for _ in range(15)]
        found = ratio_interval(ours, [draw.lognormvariate(0, 0.1) for _ in range(20)])
        hits += found.low <= 1.2 <= found.high
    assert 0.92 <= hits / TRIALS <= 0.98


@pytest.mark.parametrize(
    ("t", "degrees", "tail"),
    [(6.314, 1, 0.05), (2.920, 2, 0.05), (4.541, 3, 0.01), (2.776, 4, 0.025), (3.365, 5, 0.01), (2.764, 10, 0.01)],
)
def test_students_tail_is_that_of_the_tables(t: float, degrees: int, tail: float) -> None:
    assert student_tail(t, degrees) == pytest.approx(tail, rel=2e-3)
    assert student_tail(-t, degrees) == pytest.approx(1 - tail, rel=2e-3)
    assert student_tail(0.0, degrees) == 0.5
