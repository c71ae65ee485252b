"""Mutants within a time: which are drawn, what a batch that is cut off counts for, and what is ended."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from scripts.quality.mutation_run import BATCH, run_within, tried
from scripts.quality.project import QualityError

NAMES = [f"app.core.x_f__mutmut_{number}" for number in range(3 * BATCH)]


class Bench:
    """A laboratory that kills every mutant; from the given call on it has no time, or fails."""

    def __init__(self, *, cut_off_at: int = 99, fails_at: int = 99) -> None:
        self.calls: list[list[str]] = []
        self._cut_off_at = cut_off_at
        self._fails_at = fails_at

    def call(self, names: Sequence[str], timeout_s: float) -> tuple[int, str] | None:
        assert timeout_s > 0
        self.calls.append(list(names))
        if len(self.calls) == self._cut_off_at:
            return None
        return (1, "Failed to run clean test") if len(self.calls) == self._fails_at else (0, "done")

    def exit_codes(self) -> dict[str, dict[str, int | None]]:
        begun = {name for names in self.calls for name in names}
        return {"app/core.py": {name: 1 if name in begun else None for name in NAMES}}


def soon() -> float:
    return time.monotonic() + 60


def test_all_are_tried_in_the_order_in_which_they_were_drawn() -> None:
    bench = Bench()
    drawn = NAMES[::-1]
    assert list(dict(tried(bench, drawn, soon()))) == drawn
    assert [len(names) for names in bench.calls] == [BATCH] * 3


def test_a_batch_that_is_cut_off_counts_for_nothing() -> None:
    assert list(dict(tried(Bench(cut_off_at=2), NAMES, soon()))) == NAMES[:BATCH]


def test_no_batch_is_begun_when_the_time_is_up() -> None:
    bench = Bench()
    assert list(tried(bench, NAMES, time.monotonic() - 1)) == []
    assert bench.calls == []


def test_mutmut_s_failure_is_told_and_is_no_result() -> None:
    with pytest.raises(QualityError, match="Failed to run clean test"):
        list(tried(Bench(fails_at=2), NAMES, soon()))


def test_a_program_that_takes_too_long_is_ended_with_what_it_started(tmp_path: Path) -> None:
    marker = tmp_path / "pid"
    command = ("sh", "-c", "sleep 600 & echo $! >pid.new; mv pid.new pid; wait")
    # On a busy machine a second may not be enough for it to have started anything.
    for timeout_s in (1, 4, 16, 64):
        assert run_within(command, tmp_path, timeout_s) is None
        if marker.exists():
            break
    deadline = time.monotonic() + 60
    while (state := process_state(int(marker.read_text()))) not in ("", "Z"):
        assert time.monotonic() < deadline, state
        time.sleep(0.01)


def process_state(pid: int) -> str:
    """The letter of /proc; empty where there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def test_what_a_program_says_and_its_status_are_told(tmp_path: Path) -> None:
    script = "import sys, os; print(os.getcwd()); sys.exit('wrong')"
    assert run_within((sys.executable, "-c", script), tmp_path, timeout_s=60) == (1, f"{tmp_path}\nwrong\n")
