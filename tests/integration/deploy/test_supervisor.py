"""The supervisor with small stand-ins: order, force, death, and nothing left behind."""

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from deploy.local.paths import ROOT
from deploy.local.state import Phase, read_state

GONE_WITHIN_S = 10.0


class Supervised:
    """A supervisor in a process of its own, whose words are read as they come."""

    def __init__(self, process: subprocess.Popen[str], directory: Path) -> None:
        self.process = process
        self.directory = directory
        self.descendants: list[psutil.Process] = []

    def until(self, words: str) -> str:
        """Read the supervisor's words up to the line that holds ``words``; note who has run till then."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with suppress(psutil.NoSuchProcess):
                self.descendants += psutil.Process(self.process.pid).children(recursive=True)
            if words in line:
                return line
        raise AssertionError(f"the supervisor never said {words!r}")

    def end(self, number: signal.Signals) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait()

    def assert_nothing_left(self) -> None:
        """All the descendants that were noted are gone, or go at once."""
        assert self.descendants, "nobody was noted"
        for pidfd in map(open_pidfd, self.descendants):
            if pidfd is not None:
                gone, _, _ = select.select([pidfd], [], [], GONE_WITHIN_S)
                os.close(pidfd)
                assert gone


def open_pidfd(process: psutil.Process) -> int | None:
    try:
        pidfd = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return None
    # A process of the same number that began later is none of ours.
    if process.is_running():
        return pidfd
    os.close(pidfd)
    return None


@contextmanager
def supervised(directory: Path, *names: str) -> Iterator[Supervised]:
    argv = (sys.executable, "-m", "tests.integration.deploy.standin", str(directory), *names)
    with subprocess.Popen(argv, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield Supervised(process, directory)
        finally:
            process.kill()


def test_workers_end_first_and_servers_last(tmp_path: Path) -> None:
    with supervised(tmp_path, "server", "dispatcher", "worker") as stack:
        stack.until("the stack runs")
        assert stack.end(signal.SIGTERM) == 130
        stack.assert_nothing_left()
    assert (tmp_path / "order").read_text().split() == ["worker", "dispatcher", "server"]


def test_addresses_and_state_are_there_while_the_stack_runs_and_no_longer(tmp_path: Path) -> None:
    with supervised(tmp_path, "server") as stack:
        stack.until("the stack runs")
        state = read_state(tmp_path / "state.json")
        assert state is not None
        assert state.phase is Phase.READY
        assert (tmp_path / "stack.env").read_text() == "HEADRACE_KAFKA=nowhere\n"
        stack.end(signal.SIGINT)
    assert not (tmp_path / "stack.env").exists()
    assert read_state(tmp_path / "state.json") is None


def test_who_does_not_obey_is_killed(tmp_path: Path) -> None:
    with supervised(tmp_path, "stubborn", "server") as stack:
        stack.until("the stack runs")
        assert stack.end(signal.SIGTERM) == 130
        stack.assert_nothing_left()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_nothing_outlives_the_supervisor(tmp_path: Path, number: signal.Signals) -> None:
    with supervised(tmp_path, "stubborn", "server", "worker") as stack:
        stack.until("the stack runs")
        stack.end(number)
        stack.assert_nothing_left()


def test_an_interrupt_during_the_start_leaves_nothing(tmp_path: Path) -> None:
    with supervised(tmp_path, "server", "never") as stack:
        stack.until("server is healthy")
        assert stack.end(signal.SIGINT) == 130
        stack.assert_nothing_left()


def test_a_grandchild_that_lost_its_parent_ends_too(tmp_path: Path) -> None:
    with supervised(tmp_path, "parent", "server") as stack:
        stack.until("the stack runs")
        assert any(descendant.name() == "sleep" for descendant in stack.descendants)
        stack.end(signal.SIGTERM)
        stack.assert_nothing_left()


def test_a_start_that_fails_shows_the_end_of_the_log_and_ends_the_others(tmp_path: Path) -> None:
    with supervised(tmp_path, "server", "broken") as stack:
        stack.until("ended with exit code 3")
        stack.until("no such luck")
        assert stack.process.wait() == 1
    state = read_state(tmp_path / "state.json")
    assert state is not None
    assert state.phase is Phase.FAILED
    assert "no such luck" in state.error


def test_a_start_that_takes_too_long_says_so(tmp_path: Path) -> None:
    with supervised(tmp_path, "never") as stack:
        stack.until("never was not healthy after 2 s")
        assert stack.process.wait() == 1


def test_a_death_in_a_running_stack_is_told_and_the_rest_goes_on(tmp_path: Path) -> None:
    with supervised(tmp_path, "server", "worker") as stack:
        stack.until("the stack runs")
        ready = read_state(tmp_path / "state.json")
        assert ready is not None
        pid_of = {service.name: service.pid for service in ready.services}
        os.kill(pid_of["worker"], signal.SIGKILL)
        assert "it is not restarted" in stack.until("worker (process")
        state = read_state(tmp_path / "state.json")
        assert state is not None
        assert state.phase is Phase.DEGRADED
        assert [(service.name, service.exit_code) for service in state.ended()] == [("worker", -9)]
        assert psutil.pid_exists(pid_of["server"])
