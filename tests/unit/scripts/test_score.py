"""The score: its formula, and what is not measured."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.quality.score import Part, score

values = st.none() | st.floats(0, 200)
parts = st.lists(st.builds(Part, st.just("part"), values, st.floats(1, 100), st.just("%"), st.integers(1, 60)))


def part(value: float | None, goal: float, weight: int) -> Part:
    return Part("part", value, goal, "%", weight)


def test_it_is_the_weighted_mean_of_the_shares_of_the_goals() -> None:
    found = score([part(45, 90, 20), part(85, 85, 30), part(20, 80, 50)])
    assert found.points == pytest.approx(100 * (20 * 0.5 + 30 * 1 + 50 * 0.25) / 100)
    assert found.measured_weight == 100


def test_more_than_the_goal_makes_up_for_nothing() -> None:
    assert score([part(400, 100, 50), part(0, 100, 50)]).points == 50


def test_what_is_not_measured_counts_for_nothing_and_is_told() -> None:
    found = score([part(100, 100, 60), part(None, 100, 40)])
    assert found.points == 100
    assert found.measured_weight == 60


def test_a_zero_that_was_measured_does_count() -> None:
    assert score([part(100, 100, 60), part(0, 100, 40)]).points == 60


def test_below_half_of_the_weight_there_is_no_score() -> None:
    assert score([part(100, 100, 49), part(None, 100, 51)]).points is None
    assert score([]).points is None


@given(parts)
def test_it_is_none_or_within_0_and_100(drawn: list[Part]) -> None:
    points = score(drawn).points
    assert points is None or 0 <= points <= 100 + 1e-9


def test_a_part_misses_its_goal_only_if_it_was_measured() -> None:
    assert part(89.9, 90, 1).misses()
    assert not part(90, 90, 1).misses()
    assert not part(None, 90, 1).misses()
