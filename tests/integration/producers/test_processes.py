"""The command as a process: exit statuses, signals, pipes."""

import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Sequence

import pytest

from schemas.events import State
from tests.integration.producers.stub import StubPlatform

WAIT_S = 60.0


def start(kafka: str, arguments: Sequence[str]) -> subprocess.Popen[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}
    return subprocess.Popen(
        [sys.executable, "-m", "producers", *arguments],
        env={**env, "HEADRACE_KAFKA": kafka, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["topics", "create"], 0),
        (["submit", "generate"], 2),
        (["status", "no-such-job"], 3),
        (["topics", "--kafka", "127.0.0.1:1"], 4),
        (["submit", "generate", "--model", "m", "--prompt", "p", "--wait", "--timeout", "0.1"], 124),
    ],
)
def test_the_exit_status_tells_what_happened(topics_created: str, arguments: list[str], status: int) -> None:
    with start(topics_created, arguments) as process:
        _, err = process.communicate(timeout=WAIT_S)

    assert process.returncode == status, err
    assert "Traceback" not in err


def test_a_failed_job_ends_with_1(topics_created: str, platform: StubPlatform) -> None:
    job_id = f"mine-{secrets.token_hex(8)}"
    platform.fail(job_id)
    platform.state(job_id, State.FAILED)
    with start(topics_created, ["watch", job_id]) as process:
        process.communicate(timeout=WAIT_S)

    assert process.returncode == 1


def test_ctrl_c_ends_a_watch_with_130_and_no_traceback(topics_created: str, platform: StubPlatform) -> None:
    job_id = f"mine-{secrets.token_hex(8)}"
    platform.state(job_id, State.QUEUED)
    with start(topics_created, ["watch", job_id]) as process:
        assert process.stdout is not None
        assert "queued" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=WAIT_S)

    assert process.returncode == 130
    assert "Traceback" not in err


def test_a_reader_that_has_enough_is_no_error(topics_created: str, platform: StubPlatform) -> None:
    job_id = f"mine-{secrets.token_hex(8)}"
    platform.state(job_id, State.QUEUED)
    with start(topics_created, ["watch", job_id]) as process:
        assert process.stdout is not None
        assert "queued" in process.stdout.readline()
        process.stdout.close()
        platform.progress(job_id, *range(10))
        assert process.stderr is not None
        err = process.stderr.read()

    assert process.returncode == 0
    assert err == ""


def test_colours_are_for_terminals_only(topics_created: str, platform: StubPlatform) -> None:
    job_id = f"mine-{secrets.token_hex(8)}"
    platform.state(job_id, State.QUEUED)
    with start(topics_created, ["status", job_id]) as process:
        out, _ = process.communicate(timeout=WAIT_S)

    assert job_id in out
    assert "\x1b" not in out


def test_up_and_down_take_the_options_of_the_local_stack(topics_created: str) -> None:
    for verb in ("up", "down"):
        with start(topics_created, [verb, "--help"]) as process:
            out, _ = process.communicate(timeout=WAIT_S)
        assert process.returncode == 0
        assert f"deploy.local {verb}" in out
