"""Ten schedules of faults, one after the other on one stack: `make faults SEEDS=A..B` runs any others."""

import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import msgspec
import pytest

from tests.acceptance.faults.line import RunLine
from tests.acceptance.faults.schedule import BLOCK_SEEDS
from tests.acceptance.processes import ROOT

#: A schedule with its drain takes a minute at most. The first waits for the stack too, whose three JVMs and
#: five processes take another on two busy cores.
LINE_S: Final = 250
#: How long a process that gives no line may write what it is at, and how long it may take to end.
TELL_S: Final = 5
END_S: Final = 30
SHOWN_CHARACTERS: Final = 50_000


class Runs:
    """The lines of a process that runs the schedules, as they come."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self._process = process
        self._log = log
        #: Empty at the end.
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, name="lines of faults", daemon=True)
        self._reader.start()

    def next(self) -> RunLine:
        """The line of the next seed. A process that gives none is ended, and no later line is waited for."""
        with suppress(queue.Empty):
            if line := self._lines.get(timeout=LINE_S):
                return msgspec.json.decode(line, type=RunLine)
        self._lines.put(b"")
        self._end()
        pytest.fail(f"no line came:\n{self.log()}")

    def log(self) -> str:
        """The end of what the process has written."""
        return self._log.read_text(errors="replace")[-SHOWN_CHARACTERS:]

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(b"")

    def _end(self) -> None:
        for number, within_s in ((signal.SIGUSR1, TELL_S), (signal.SIGTERM, END_S), (signal.SIGKILL, None)):
            self._process.send_signal(number)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(within_s)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    with running(tmp_path_factory.mktemp("faults") / "faults.log", "--seeds", f"0..{BLOCK_SEEDS - 1}") as runs:
        yield runs


@contextmanager
def running(log: Path, *arguments: str) -> Iterator[Runs]:
    """A process that runs what the arguments say."""
    command = (sys.executable, "-m", "tests.acceptance.faults", *arguments)
    with (
        log.open("wb") as errors,
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=errors) as process,
    ):
        try:
            yield Runs(process, log)
        finally:
            # It ends its stack in order, and its leash does where it can't.
            process.terminate()


@pytest.mark.parametrize("seed", range(BLOCK_SEEDS))
def test_promises_hold_under_the_faults_of_a_seed(runs: Runs, seed: int) -> None:
    run = runs.next()
    assert run.seed == seed
    assert run.verdict == "held", f"{msgspec.json.format(msgspec.json.encode(run)).decode()}\n{runs.log()}"


def test_dispatchers_and_workers_of_two_releases_come_and_go_under_load_and_no_job_is_aborted(tmp_path: Path) -> None:
    with running(tmp_path / "scale.log", "--scale") as runs:
        run = runs.next()
        assert run.verdict == "held", f"{msgspec.json.format(msgspec.json.encode(run)).decode()}\n{runs.log()}"
    assert run.jobs > 0
    # A machine that paused for longer than a lease has taken it as a fault does.
    assert not run.attempts_lost or run.pauses
