"""Trends and jumps: planted ones are found, quiet series stay quiet as often as is promised."""

import random
from collections.abc import Callable

import pytest

from runtime.monitoring.trends import FALSE_ALARM, FEWEST, change_points, slope

Draw = Callable[[random.Random], float]
NOISES: dict[str, Draw] = {
    "normal": lambda draw: draw.gauss(1.0, 0.2),
    "lognormal": lambda draw: draw.lognormvariate(0, 0.5),
    "with outliers": lambda draw: draw.gauss(1.0, 0.1) * (20 if draw.random() < 0.05 else 1),
    "of few values": lambda draw: float(draw.randint(1, 4)),
}
QUIET = 1_000


def series(draw: random.Random, noise: Draw, count: int) -> list[float]:
    return [noise(draw) for _ in range(count)]


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("count", [FEWEST, 60])
def test_a_quiet_series_jumps_no_more_often_than_promised(noise: str, count: int) -> None:
    draw = random.Random(count)
    alarms = sum(bool(change_points(series(draw, NOISES[noise], count))) for _ in range(QUIET))
    # The promise, and three standard deviations of a count.
    assert alarms <= QUIET * FALSE_ALARM + 3 * (QUIET * FALSE_ALARM) ** 0.5


@pytest.mark.parametrize("noise", ["normal", "lognormal", "with outliers"])
def test_a_planted_jump_is_found_where_it_is(noise: str) -> None:
    draw, found = random.Random(3), 0
    for _ in range(50):
        values = series(draw, NOISES[noise], 40) + [value * 2 for value in series(draw, NOISES[noise], 30)]
        points = change_points(values)
        found += any(abs(point.index - 40) <= 8 and 1.5 < point.after / point.before < 2.7 for point in points)
    assert found >= 45


def test_two_jumps_are_both_found() -> None:
    draw = random.Random(4)
    values = [draw.gauss(level, 0.1) for level in (1.0, 2.0, 1.0) for _ in range(30)]
    assert [round(point.index, -1) for point in change_points(values)] == [30, 60]


def test_a_jump_that_does_not_matter_is_not_told() -> None:
    values = [1.0 + index / 1e6 for index in range(30)] + [1.02 + index / 1e6 for index in range(30)]
    assert not change_points(values)
    assert len(change_points(values, least_effect=0.01)) >= 1


def test_fewer_values_than_can_be_judged_are_quiet() -> None:
    assert not change_points([1.0] * 8 + [100.0] * (FEWEST - 9))


def test_a_lone_outlier_is_no_jump() -> None:
    assert not change_points([1.0 + index % 5 / 100 for index in range(30)] + [90.0])


def test_a_steady_rise_is_told_per_second_in_spite_of_outliers() -> None:
    draw = random.Random(5)
    times = [15.0 * index for index in range(40)]
    values = [0.01 + 1e-5 * at + draw.gauss(0, 2e-4) + (1.0 if draw.random() < 0.1 else 0.0) for at in times]
    found = slope(times, values)
    assert found is not None
    assert found.low <= 1e-5 <= found.high
    assert 0.9e-5 < found.value < 1.1e-5


def test_a_level_series_has_a_slope_of_its_own_as_seldom_as_is_promised() -> None:
    draw, wrong = random.Random(6), 0
    times = [float(index) for index in range(25)]
    for _ in range(400):
        found = slope(times, series(draw, NOISES["lognormal"], 25))
        assert found is not None
        wrong += not found.low <= 0 <= found.high
    assert wrong / 400 <= 0.08


def test_too_few_values_have_no_slope() -> None:
    assert slope([0.0, 1.0, 2.0], [1.0, 2.0, 3.0]) is None
    assert slope([], []) is None
    assert slope([1.0] * 10, [1.0] * 10) is None
