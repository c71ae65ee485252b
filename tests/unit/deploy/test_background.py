"""What `up` waits for."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import json

from deploy.local.background import until_started
from deploy.local.paths import StackPaths
from deploy.local.service import StackError
from deploy.local.state import Phase, ProcessIdentity, ServiceState, StackState, write_private


@pytest.fixture
def supervisor() -> Iterator[subprocess.Popen[bytes]]:
    """A process that says nothing of itself."""
    with subprocess.Popen(("sleep", "1000")) as process:
        yield process
        process.kill()


def say(supervisor: subprocess.Popen[bytes], paths: StackPaths, phase: Phase) -> StackState:
    identity = ProcessIdentity.of(supervisor.pid)
    assert identity is not None
    state = StackState(identity, phase, (ServiceState("worker-1", 7, "worker-1.log", exit_code=1),))
    write_private(paths.state, json.encode(state))
    return state


def test_it_returns_once_all_are_healthy(supervisor: subprocess.Popen[bytes], tmp_path: Path) -> None:
    paths = StackPaths(tmp_path)
    state = say(supervisor, paths, Phase.READY)
    assert until_started(supervisor, paths) == state


def test_a_process_that_ends_as_soon_as_all_are_healthy_is_told_of(
    supervisor: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    paths = StackPaths(tmp_path)
    say(supervisor, paths, Phase.DEGRADED)
    with pytest.raises(StackError, match="is degraded; worker-1 ended with exit code 1: stop it with `make down`"):
        until_started(supervisor, paths)
