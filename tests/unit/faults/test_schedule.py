"""Schedules of faults: the same for ever, short, and together all there is."""

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.acceptance.faults.schedule import BLOCK_SEEDS, FAULTS_S, PLAYS, Fault, Means, draw

SEEDS = st.integers(0, 10**9)
unhurried = settings(deadline=None, max_examples=50)


@unhurried
@given(SEEDS)
def test_a_seed_means_one_schedule(seed: int) -> None:
    assert draw(seed) == draw(seed)


@unhurried
@given(SEEDS)
def test_faults_leave_half_a_minute_for_the_drain(seed: int) -> None:
    schedule = draw(seed)
    assert schedule.end_s <= FAULTS_S
    assert all(strike.end_s <= schedule.end_s for strike in schedule.strikes)


@unhurried
@given(SEEDS)
def test_all_faults_but_the_last_pair_have_quiet_before_them(seed: int) -> None:
    singles = draw(seed).strikes[:-1]
    assert all(after.at_s >= before.end_s + 0.9 for before, after in pairwise(singles))


@unhurried
@given(SEEDS)
def test_the_last_two_faults_strike_together(seed: int) -> None:
    *_, first, second = draw(seed).strikes
    assert first.at_s < second.at_s < first.end_s


@unhurried
@given(st.integers(0, 10**6))
def test_a_block_of_seeds_makes_every_fault(block: int) -> None:
    seeds = range(block * BLOCK_SEEDS, (block + 1) * BLOCK_SEEDS)
    strikes = [strike for seed in seeds for strike in draw(seed).strikes]
    assert {strike.fault for strike in strikes} == set(Fault)
    assert len(strikes) == len(PLAYS)


@unhurried
@given(SEEDS, st.sets(st.sampled_from(Means)))
def test_only_faults_are_drawn_that_can_be_made(seed: int, means: set[Means]) -> None:
    plays = {(play.fault, target) for play in PLAYS if play.needs in (None, *means) for target in play.targets}
    assert {(strike.fault, strike.target) for strike in draw(seed, means).strikes} <= plays


def test_without_any_means_no_clock_jumps_and_no_disk_refuses_to_sync() -> None:
    drawn = {strike.fault for seed in range(2 * BLOCK_SEEDS) for strike in draw(seed, ()).strikes}
    assert drawn.isdisjoint({Fault.CLOCK_AHEAD, Fault.CLOCK_BACK, Fault.FSYNC_ERRORS, Fault.CUT})
    assert Fault.KILL in drawn
