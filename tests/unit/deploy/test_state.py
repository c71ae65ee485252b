"""The state file, and processes that can't be mistaken."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from msgspec import json
from msgspec.structs import replace

from deploy.local.state import (
    METRICS_ADDRESS,
    Phase,
    ProcessIdentity,
    ServiceState,
    StackState,
    read_state,
    write_private,
)


def myself() -> ProcessIdentity:
    identity = ProcessIdentity.of(os.getpid())
    assert identity is not None
    return identity


def test_a_state_is_read_as_it_was_written(tmp_path: Path) -> None:
    services = (ServiceState("redis", 7, "redis.log"), ServiceState("kafka", 8, "kafka.log", exit_code=-9))
    state = StackState(myself(), Phase.DEGRADED, services, {METRICS_ADDRESS: "http://127.0.0.1:1"})
    write_private(tmp_path / "state.json", json.encode(state))
    assert read_state(tmp_path / "state.json") == state
    assert state.ended() == services[1:]
    assert state.has_processes()


def test_no_file_is_no_state(tmp_path: Path) -> None:
    assert read_state(tmp_path / "state.json") is None


def test_private_files_are_replaced_whole_and_closed_to_others(tmp_path: Path) -> None:
    path = tmp_path / "stack.env"
    path.write_text("old")
    write_private(path, b"new")
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o077 == 0
    assert list(tmp_path.iterdir()) == [path]


def test_a_running_process_is_recognised() -> None:
    assert myself().runs()


def test_a_number_that_another_process_has_now_is_not_ours() -> None:
    earlier = replace(myself(), started_ticks=myself().started_ticks - 1)
    assert not earlier.runs()


def test_an_ended_process_does_not_run_even_before_it_is_reaped() -> None:
    with subprocess.Popen((sys.executable, "-c", "input()"), stdin=subprocess.PIPE) as process:
        identity = ProcessIdentity.of(process.pid)
        assert identity is not None
        process.send_signal(signal.SIGKILL)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert not identity.runs()
