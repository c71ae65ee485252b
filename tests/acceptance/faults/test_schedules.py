"""Ten schedules of faults, one after the other on one stack: `make faults SEEDS=A..B` runs any others."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import msgspec
import pytest

from tests.acceptance.faults.line import RunLine
from tests.acceptance.faults.schedule import BLOCK_SEEDS
from tests.acceptance.processes import ROOT

#: A schedule with its drain takes a minute at most. The first waits for the stack too, whose three JVMs and
#: five processes take another on two busy cores.
TIMEOUT_S = 300
SHOWN_CHARACTERS = 20_000


class Runs:
    """The lines of a process that runs the schedules, as they come."""

    def __init__(self, output: IO[bytes], log: Path) -> None:
        self._output = output
        self._log = log

    def next(self) -> RunLine:
        """The line of the next seed."""
        line = self._output.readline()
        assert line, f"no line came:\n{self.log()}"
        return msgspec.json.decode(line, type=RunLine)

    def log(self) -> str:
        """The end of what the process has written."""
        return self._log.read_text(errors="replace")[-SHOWN_CHARACTERS:]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    log = tmp_path_factory.mktemp("faults") / "faults.log"
    command = (sys.executable, "-m", "tests.acceptance.faults", "--seeds", f"0..{BLOCK_SEEDS - 1}")
    with (
        log.open("wb") as errors,
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=errors) as process,
    ):
        assert process.stdout is not None
        try:
            yield Runs(process.stdout, log)
        finally:
            # It ends its stack in order, and its leash does where it can't.
            process.terminate()


@pytest.mark.timeout(TIMEOUT_S)
@pytest.mark.parametrize("seed", range(BLOCK_SEEDS))
def test_promises_hold_under_the_faults_of_a_seed(runs: Runs, seed: int) -> None:
    run = runs.next()
    assert run.seed == seed
    assert run.verdict == "held", f"{msgspec.json.format(msgspec.json.encode(run)).decode()}\n{runs.log()}"
