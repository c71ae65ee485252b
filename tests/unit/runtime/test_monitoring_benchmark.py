"""Benchmarks on a clock of their own: what they find is what was planted."""

import gc
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from runtime.monitoring import (
    BaselineInvalid,
    Measurement,
    benchmark,
    compare,
    compare_with,
    compare_with_baseline,
    load_baseline,
    save_baseline,
)
from runtime.monitoring.benchmark import FEWEST, outlying
from tests.unit.runtime.test_monitoring_operation import Clock


def takes(clock: Clock, seed: int, call_s: float, noise: float = 0.02) -> Callable[[], None]:
    """A function that takes about so long by this clock."""
    draw = random.Random(seed)

    def function() -> None:
        clock.now_s += call_s * draw.lognormvariate(0, noise)

    return function


def measured(seed: int, call_s: float, noise: float = 0.02, name: str = "planted") -> Measurement:
    clock = Clock()
    return benchmark(takes(clock, seed, call_s, noise), name, clock=clock)


def test_the_interval_holds_what_a_call_takes() -> None:
    found = measured(1, 0.01)
    assert found.call_s.low <= 0.01 <= found.call_s.high
    assert found.call_s.high / found.call_s.low < 1.05
    assert (found.name, found.stable, len(found.samples_s)) == ("planted", True, 40)


def test_short_calls_are_looped_until_the_clock_can_tell() -> None:
    found = measured(1, 1e-6)
    assert found.calls_per_sample >= 2_000
    assert found.call_s.value == pytest.approx(1e-6, rel=0.02)
    assert measured(1, 1.0).calls_per_sample == 1


def test_warming_up_is_not_measured() -> None:
    clock, calls = Clock(), 0

    def slow_at_first() -> None:
        nonlocal calls
        calls += 1
        clock.now_s += 0.01 * (1 + 10 * 0.5**calls)

    found = benchmark(slow_at_first, warm_up_s=10.0, clock=clock)
    assert found.stable
    assert found.call_s.value == pytest.approx(0.01, rel=0.02)
    assert found.warm_up_s > 0.1


def test_what_never_becomes_steady_is_measured_in_the_end_and_said_to_be_so() -> None:
    clock, calls = Clock(), 0

    def ever_slower() -> None:
        nonlocal calls
        calls += 1
        clock.now_s += 0.001 * 1.1**calls

    found = benchmark(ever_slower, warm_up_s=0.5, lasts_s=1.0, clock=clock)
    assert not found.stable
    assert len(found.samples_s) == FEWEST


def test_a_measurement_ends_in_time() -> None:
    clock = Clock()
    begun_s = clock.now_s
    benchmark(takes(clock, 1, 0.5), lasts_s=4.0, warm_up_s=1.0, clock=clock)
    assert clock.now_s - begun_s < 15.0


def test_outliers_are_counted_and_kept() -> None:
    clock, calls = Clock(), 0

    def sometimes_slow() -> None:
        nonlocal calls
        calls += 1
        clock.now_s += 0.01 + calls % 3 / 10_000 + (1.0 if calls % 20 == 0 else 0.0)

    found = benchmark(sometimes_slow, lasts_s=100.0, clock=clock)
    assert found.outliers == 2
    assert max(found.samples_s) > 1.0
    assert found.call_s.value == pytest.approx(0.0101)


def test_outliers_among_equal_values_are_all_that_differ() -> None:
    assert outlying([1.0, 1.0, 1.0, 1.0, 1.1]) == [False, False, False, False, True]
    assert not any(outlying([1.0, 1.0, 1.0]))


@pytest.mark.parametrize("was_enabled", [True, False])
def test_the_collector_rests_and_is_as_it_was_afterwards(was_enabled: bool) -> None:
    seen: set[bool] = set()
    (gc.enable if was_enabled else gc.disable)()
    try:
        clock = Clock()

        def failing() -> None:
            seen.add(gc.isenabled())
            clock.now_s += 1.0
            raise ValueError("as planted")

        with pytest.raises(ValueError, match="as planted"):
            benchmark(failing, clock=clock)
        assert gc.isenabled() == was_enabled
    finally:
        gc.enable()
    assert seen == {False}


def test_a_planted_slowdown_is_reported_and_a_planted_gain_too() -> None:
    assert compare_with(measured(1, 0.010), measured(2, 0.012)).verdict == "slower"
    assert compare_with(measured(1, 0.012), measured(2, 0.010)).verdict == "faster"


def test_equal_ones_are_seldom_said_to_differ() -> None:
    draw, made = random.Random(1), measured(1, 0.01)

    def again() -> Measurement:
        return replace(made, samples_s=tuple(0.01 * draw.lognormvariate(0, 0.2) for _ in range(40)))

    verdicts = [compare_with(again(), again()).verdict for _ in range(300)]
    # One in a hundred, and three standard deviations of a count.
    assert verdicts.count("same") >= 300 - 3 - 5


def test_what_is_significant_and_does_not_matter_is_the_same() -> None:
    found = compare_with(measured(1, 0.01, 0.001), measured(2, 0.0102, 0.001))
    assert found.ratio is not None
    assert found.ratio.low > 1
    assert found.verdict == "same"


def test_what_would_matter_and_is_not_significant_is_the_same() -> None:
    quick = replace(measured(1, 0.01), samples_s=(0.01, 0.05, 0.02, 0.04, 0.03, 0.06, 0.02, 0.05))
    slow = replace(quick, samples_s=(0.02, 0.06, 0.03, 0.05, 0.04, 0.07, 0.03, 0.06))
    found = compare_with(quick, slow)
    assert found.ratio is not None
    assert found.ratio.value > 1.1
    assert found.verdict == "same"


def test_times_of_another_machine_are_not_compared() -> None:
    found = compare_with(replace(measured(1, 0.01), machine="another"), measured(2, 0.02))
    assert (found.verdict, found.ratio) == ("unknown", None)
    assert "another machine" in found.reason


def test_two_functions_in_turns_are_told_apart_while_the_machine_drifts() -> None:
    clock, calls = Clock(), 0

    def drifting(call_s: float) -> Callable[[], None]:
        def function() -> None:
            nonlocal calls
            calls += 1
            clock.now_s += call_s * (1 + calls / 50)

        return function

    found = compare(drifting(0.012), drifting(0.010), lasts_s=1_000.0, clock=clock)
    assert found.verdict == "slower"
    assert found.ratio is not None
    assert found.ratio.low <= 1.2 <= found.ratio.high
    assert compare(drifting(0.01), drifting(0.01), lasts_s=1_000.0, clock=clock).verdict == "same"


def test_a_baseline_is_kept_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "baseline.json"
    assert load_baseline(file) == {}
    kept = measured(1, 0.01, name="kept")
    save_baseline(file, [kept])
    assert load_baseline(file) == {"kept": kept}
    slower, new = measured(2, 0.02, name="kept"), measured(3, 0.01, name="new")
    verdicts = [one.verdict for one in compare_with_baseline(load_baseline(file), [slower, new])]
    assert verdicts == ["slower", "unknown"]
    assert [path.name for path in tmp_path.iterdir()] == ["baseline.json"]


def test_another_file_is_no_baseline(tmp_path: Path) -> None:
    file = tmp_path / "baseline.json"
    file.write_text('{"kept": 3}')
    with pytest.raises(BaselineInvalid, match="Save one again"):
        load_baseline(file)


def test_a_real_function_is_measured_on_the_real_clock() -> None:
    found = benchmark(lambda: sum(range(1_000)), "sum", samples=8, lasts_s=0.2, warm_up_s=0.1)
    assert 1e-6 < found.call_s.value < 1e-2
