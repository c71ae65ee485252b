"""How long values live, when they are loaded anew, and when a server is left alone."""

import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.cache import Lifetime
from runtime.cache.breaker import HOLD_S, LONGEST_HOLD_S, STRIKES, Breaker
from runtime.cache.stats import Tally
from runtime.cache.weights import weigh
from tests.unit.runtime.caching import Time

CHANCE = st.floats(0, 1, exclude_max=True)


@settings(deadline=None, max_examples=50)
@given(CHANCE, CHANCE, st.floats(0.001, 1e6), st.floats(0, 1e6))
def test_jitter_only_shortens_and_the_lead_leaves_half_of_the_life(
    chance: float, jitter: float, ttl_s: float, load_s: float
) -> None:
    lifetime = Lifetime(ttl_s=ttl_s, jitter=jitter)
    life_s = lifetime.draw_s(lambda: chance, absent=False)
    assert ttl_s * (1 - jitter) <= life_s <= ttl_s
    assert 0 <= lifetime.lead_s(lambda: chance, load_s, life_s) <= life_s / 2


def test_the_lead_is_at_least_the_time_of_a_load_unless_it_is_switched_off() -> None:
    assert Lifetime(ttl_s=60).lead_s(lambda: 0.0, 2.0, 60.0) == 2.0
    assert Lifetime(ttl_s=60).lead_s(lambda: 0.9, 2.0, 60.0) == pytest.approx(2 + 2 * 2.302585)
    assert Lifetime(ttl_s=60, early=0).lead_s(lambda: 0.9, 2.0, 60.0) == 0.0


def test_that_there_is_nothing_has_a_life_of_its_own() -> None:
    assert Lifetime(ttl_s=60, jitter=0, absent_s=5).draw_s(lambda: 0.5, absent=True) == 5


@pytest.mark.parametrize(
    "wrong",
    [{"ttl_s": 0}, {"ttl_s": -1}, {"ttl_s": float("nan")}, {"ttl_s": float("inf")}, {"ttl_s": 1, "jitter": 1},
     {"ttl_s": 1, "stale_s": -1}, {"ttl_s": 1, "absent_s": 0}, {"ttl_s": 1, "early": -1}],
)  # fmt: skip
def test_a_time_that_is_none_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="_s is"):
        Lifetime(**wrong)


def test_a_breaker_opens_after_failures_in_a_row_and_lets_one_try_through_a_hold() -> None:
    time = Time()
    breaker = Breaker(time.clock)
    for _ in range(STRIKES - 1):
        breaker.failed()
    breaker.succeeded()
    for _ in range(STRIKES):
        assert breaker.allows()
        breaker.failed()
    assert not breaker.allows()

    time.pass_s(HOLD_S)

    assert [breaker.allows() for _ in range(3)] == [True, False, False]
    breaker.succeeded()
    assert breaker.closed
    assert [breaker.allows() for _ in range(3)] == [True, True, True]


def test_a_breaker_waits_longer_with_each_failed_try_up_to_a_limit() -> None:
    time = Time()
    time.drawn = 0.0
    breaker = Breaker(time.clock)
    for _ in range(STRIKES):
        breaker.failed()
    waits = []
    for _ in range(8):
        waited = 0.0
        while not breaker.allows():
            time.pass_s(HOLD_S / 4)
            waited += HOLD_S / 4
        breaker.failed()
        waits.append(waited)
    assert waits[:3] == [HOLD_S, 2 * HOLD_S, 4 * HOLD_S]
    assert waits[-1] == LONGEST_HOLD_S


def test_a_try_whose_end_is_never_told_does_not_close_the_way_for_ever() -> None:
    time = Time()
    breaker = Breaker(time.clock)
    for _ in range(STRIKES):
        breaker.failed()
    time.pass_s(HOLD_S)
    assert breaker.allows()
    time.pass_s(HOLD_S)
    assert breaker.allows()


def test_a_tally_loses_nothing_to_threads_and_reading_it_adds_nothing() -> None:
    tally = Tally()
    threads = [threading.Thread(target=lambda: [tally.add() for _ in range(20_000)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    seen = [tally.read() for _ in range(50)]
    for thread in threads:
        thread.join()
    assert seen == sorted(seen)
    assert tally.read() == tally.read() == 80_000


def test_a_weight_counts_what_a_value_holds() -> None:
    text = "x" * 10_000
    assert weigh([text, {"a": text}]) > 2 * 10_000
    assert 900_000 < weigh([f"{number:09}" + "x" * 1_000 for number in range(900)]) < 1_100_000
    assert 9_000_000 < weigh([f"{number:09}" + "x" * 1_000 for number in range(9_000)]) < 11_000_000
