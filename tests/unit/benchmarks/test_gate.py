"""The gate against lost performance: planted slowdowns fail it, noise does not."""

import math
import random
import subprocess
import sys
from collections.abc import Callable, Sequence
from itertools import repeat
from pathlib import Path
from time import thread_time

import pytest
from msgspec.structs import replace

from benchmarks.figure import Bar, Figure, compare
from benchmarks.gate import (
    SESSIONS,
    Line,
    gate,
    key_of,
    main,
    read_baseline,
    read_results,
    save,
    table,
)
from benchmarks.losses import FALSE_ALARM, find

TIME = Bar("at most", 1.0)
BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
TRIES = 100
NAMES = [f"bench.{number}" for number in range(20)]


def figure(draw: random.Random, name: str, *, slower: float = 1.0, noise: float = 0.05, runs: int = 3) -> Figure:
    """Times of ours and a peer, ours so many times slower than it was."""
    ours = [2.0 * slower * draw.lognormvariate(0, noise) for _ in range(runs)]
    return compare(name, "s", TIME, ours, [draw.lognormvariate(0, noise) for _ in range(runs)], "a peer")


def figures(draw: random.Random, *, slower: dict[str, float] | None = None, noise: float = 0.05) -> list[Figure]:
    return [figure(draw, name, slower=(slower or {}).get(name, 1.0), noise=noise) for name in NAMES]


def lost(lines: Sequence[Line]) -> list[str]:
    return [line.key[0] for line in lines if line.finding and line.finding.verdict == "lost"]


def test_a_planted_slowdown_fails_and_hardly_ever_another_figure() -> None:
    draw, caught, others = random.Random(1), 0, 0
    slow = {"bench.7": 1.5}

    def again(bench: str) -> list[Figure]:
        return [figure(draw, bench, slower=slow.get(bench, 1.0))]

    for _ in range(30):
        lines = gate(save(save([], figures(draw)), figures(draw)), figures(draw, slower=slow), again, 2)
        caught += "bench.7" in lost(lines)
        others += bool(set(lost(lines)) - {"bench.7"})
    assert caught >= 27
    assert others <= 5


@pytest.mark.parametrize("noise", [0.03, 0.3])
def test_equal_runs_pass_however_noisy_they_are(noise: float) -> None:
    draw, failed, failed_at_once = random.Random(2), 0, 0
    for _ in range(TRIES):
        kept = save(save([], figures(draw, noise=noise)), figures(draw, noise=noise))
        fresh = figures(draw, noise=noise)
        failed_at_once += bool(lost(gate(kept, fresh, None, 0)))
        failed += bool(lost(gate(kept, fresh, lambda bench: [figure(draw, bench, noise=noise)], 2)))
    # The promise, and three standard deviations of a count.
    assert max(failed, failed_at_once) <= TRIES * FALSE_ALARM + 3 * (TRIES * FALSE_ALARM) ** 0.5


def test_a_lower_rate_is_a_loss_and_a_lower_time_a_gain() -> None:
    assert find("at least", [10.0, 10.1, 9.9], [5.0, 5.1, 4.9]).verdict == "lost"
    assert find("at most", [10.0, 10.1, 9.9], [5.0, 5.1, 4.9]).verdict == "gained"
    assert find("at most", [5.0, 5.1, 4.9], [10.0, 10.1, 9.9]).verdict == "lost"
    assert find("at least", [5.0], [10.0]).verdict == "too few runs"


def test_the_chance_is_that_of_students_test() -> None:
    before, now = ([math.exp(log) for log in logs] for logs in ((0.0, 0.1, -0.1), (0.5, 0.6, 0.4)))
    # t = 0.5 / (0.1 sqrt(1/3 + 1/3)) = 6.124 with four degrees of freedom.
    assert find("at most", before, now).p == pytest.approx(0.0018, rel=0.02)


def test_a_sure_loss_that_does_not_matter_passes() -> None:
    found = find("at most", [1.0] * 5, [1.08] * 5)
    assert found.p is not None
    assert found.p < 1e-4
    assert found.verdict == "same"


def test_a_loss_that_was_not_there_the_second_time_passes_and_is_told() -> None:
    draw = random.Random(3)
    kept = save([], figures(draw))
    measured: list[str] = []

    def again(bench: str) -> list[Figure]:
        measured.append(bench)
        return [figure(draw, bench)]

    lines = gate(kept, figures(draw, slower={"bench.3": 3.0}), again, 2)
    assert lost(lines) == []
    assert "bench.3" in measured
    assert measured.count("bench.3") == 1
    assert "once more" in table(lines)


def test_a_second_measurement_with_a_ratio_that_is_not_positive_proves_no_loss() -> None:
    draw = random.Random(8)
    odd = compare("bench.0", "µs", TIME, [2.0, -0.1, 2.0], [1.0, 1.0, 1.0], "a peer")
    kept = save([], [replace(figure(draw, "bench.0"), unit="µs")])
    lines = gate(kept, [replace(figure(draw, "bench.0", slower=3.0), unit="µs")], lambda _: [odd], 2)
    assert lost(lines) == []
    assert "not positive" in table(lines)


def test_on_another_machine_a_loss_has_to_be_larger() -> None:
    draw = random.Random(4)
    kept = save([], [replace(figure(draw, "bench.0", noise=0.01), machine="another")])
    assert lost(gate(kept, [figure(draw, "bench.0", slower=1.2, noise=0.01)], None, 0)) == []
    lines = gate(kept, [figure(draw, "bench.0", slower=1.5, noise=0.01)], None, 0)
    assert lost(lines) == ["bench.0"]
    assert "another machine" in table(lines)


def test_what_was_not_measured_again_is_not_taken_for_equal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results, baseline = tmp_path / "results", tmp_path / "baseline.json"
    results.mkdir()
    (results / "bench.jsonl").write_text(f"{figure(random.Random(5), 'bench.0').line()}\n")
    arguments = ["--results", str(results), "--baseline", str(baseline)]
    assert main([*arguments, "--save"]) == 0
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert "not measured since" in printed.out
    assert "run the benchmarks first" in printed.err


def test_figures_that_came_or_went_are_told() -> None:
    draw = random.Random(6)
    lines = gate(save([], [figure(draw, "old")]), [figure(draw, "new")], None, 0)
    assert [(line.key[0], line.note) for line in lines] == [("old", "not measured"), ("new", "new: --save it")]


def test_a_baseline_keeps_the_last_sessions_of_each_machine() -> None:
    draw = random.Random(7)
    kept = save([], [replace(figure(draw, "bench.0"), machine="another")])
    for _ in range(SESSIONS + 3):
        kept = save(kept, [figure(draw, "bench.0")])
    machines = [session.machine for session in kept[0].sessions]
    assert machines.count("another") == 1
    assert len(machines) == SESSIONS + 1
    assert save(kept, []) == kept


def work(loops: int) -> Callable[[], None]:
    def function() -> None:
        for number in repeat(3, loops):
            number**number

    return function


def real_figure(loops: int) -> Figure:
    """A function measured in earnest, beside one that is as it was."""

    def took_s(function: Callable[[], None]) -> float:
        begun_s = thread_time()
        for _ in repeat(None, 20):
            function()
        return thread_time() - begun_s

    runs = [(took_s(work(loops)), took_s(work(1_000))) for _ in range(9)]
    ours, peer = zip(*runs, strict=True)
    return compare("real", "s", TIME, ours, peer, "as it was")


@pytest.mark.parametrize(("loops", "status"), [(1_000, 0), (2_000, 1)])
def test_the_command_fails_by_a_real_slowdown_alone(tmp_path: Path, loops: int, status: int) -> None:
    results, baseline = tmp_path / "results", tmp_path / "baseline.json"
    results.mkdir()
    for _ in range(2):
        (results / "real.jsonl").write_text(f"{real_figure(1_000).line()}\n")
        main(["--results", str(results), "--baseline", str(baseline), "--save"])
    (results / "real.jsonl").write_text(f"{real_figure(loops).line()}\n")
    command = [sys.executable, "-m", "benchmarks.gate", "--confirm", "0"]
    done = subprocess.run(
        [*command, "--results", str(results), "--baseline", str(baseline)], capture_output=True, text=True, check=False
    )
    assert done.returncode == status, done.stdout + done.stderr
    assert ("lost" in done.stdout) == bool(status)


def test_the_committed_baseline_is_one_of_the_figures_that_there_are() -> None:
    kept = read_baseline(BENCHMARKS / "baseline.json")
    assert len(kept) > 10
    assert {key_of(one) for one in read_results(BENCHMARKS / "results")} >= {
        (one.bench, one.unit, one.peer_name) for one in kept
    }
    assert all(session.ratios for one in kept for session in one.sessions)
