"""The waits of a pool's borrowers."""

import pytest

from runtime.pools.stats import Waits, WaitStats


@pytest.fixture
def waits() -> Waits:
    """Hundred waits, of 1 s to 100 s."""
    made = Waits()
    for wait_s in range(1, 101):
        made.add(float(wait_s))
    return made


def test_percentiles_are_within_a_hundredth(waits: Waits) -> None:
    stats = waits.stats(at_once=0)
    assert (stats.waited, stats.total_s, stats.longest_s) == (100, 5050.0, 100.0)
    assert stats.p50_s == pytest.approx(50, rel=0.03)
    assert stats.p95_s == pytest.approx(95, rel=0.03)


def test_percentiles_are_over_all_borrowers_also_those_who_waited_for_nothing(waits: Waits) -> None:
    stats = waits.stats(at_once=900)
    assert (stats.p50_s, stats.waited) == (0.0, 100)
    assert stats.p95_s == pytest.approx(50, rel=0.03)
    assert stats.p99_s == pytest.approx(90, rel=0.03)


def test_without_any_wait_all_are_zero() -> None:
    assert Waits().stats(at_once=5) == WaitStats()
