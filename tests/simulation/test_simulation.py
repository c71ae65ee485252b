"""The promises hold under thousands of drawn fates, and the same seed draws the same one."""

import subprocess
import sys
from pathlib import Path

import pytest

from runtime.database import outcomes
from tests.simulation.broken_dispatchers import CommitsFirst
from tests.simulation.bugs import BUGS
from tests.simulation.processes import STATEMENTS, Parts
from tests.simulation.world import simulate

REPOSITORY = Path(__file__).parents[2]
SEEDS = 2_000
#: Enough for some that lose requests, where offsets are committed first.
LOSSY_SEEDS = 30


def simulated(*arguments: str) -> str:
    """What the command prints; it has to succeed."""
    command = [sys.executable, "-m", "tests.simulation", *arguments]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4_000:] + done.stderr[-4_000:]
    return done.stdout


@pytest.mark.timeout(1_200)
def test_every_promise_holds_in_two_thousand_simulations() -> None:
    assert "every promise held" in simulated("--seeds", str(SEEDS))


@pytest.mark.timeout(1_200)
def test_every_planted_bug_breaks_a_promise() -> None:
    assert f"{len(BUGS)} bugs, 0 not found" in simulated("--zoo")
    assert len(BUGS) >= 20


def test_requests_that_were_passed_over_are_found() -> None:
    lossy = [seed for seed in range(LOSSY_SEEDS) if simulate(seed, Parts(membership=CommitsFirst)).violations]
    assert lossy
    mended = Parts(membership=CommitsFirst, reconciles=True)
    assert [simulate(seed, mended).violations for seed in lossy] == [()] * len(lossy)


def test_a_statement_that_the_model_lacks_is_found() -> None:
    statements = {function: statement for function, statement in STATEMENTS.items() if function is not outcomes.reap}
    name, text = simulate(0, Parts(statements=statements)).violations[0]
    assert (name, text) == ("model", "the model has no runtime.database.outcomes.reap")


def test_the_same_seed_makes_the_same_trace() -> None:
    assert [simulate(seed).trace_hash for seed in (1, 2)] == [simulate(seed).trace_hash for seed in (1, 2)]
    assert simulate(1).trace_hash != simulate(2).trace_hash


def test_the_trace_does_not_depend_on_the_process_that_makes_it() -> None:
    program = "from tests.simulation.world import simulate\nfor seed in range(12): print(simulate(seed).trace_hash)"
    traces = {
        subprocess.run(
            [sys.executable, "-c", program],
            cwd=REPOSITORY,
            env={"PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert len(traces) == 1
    assert traces.pop().split() == [simulate(seed).trace_hash for seed in range(12)]
