"""A disk that refuses to sync does so for those who are traced, and nobody is taken for traced who is not."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.acceptance.faults.servers import failing_fsync, may_trace, tracer

#: Syncs whenever it is told to, and says what came of it.
SYNCS = """
import os, sys
with open(sys.argv[1], "w") as file:
    for _ in sys.stdin:
        try:
            os.fsync(file.fileno())
            print("synced", flush=True)
        except OSError as error:
            print(error.strerror, flush=True)
"""


@pytest.fixture
def syncing(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    command = (sys.executable, "-c", SYNCS, str(tmp_path / "file"))
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def sync(process: subprocess.Popen[str]) -> str:
    assert process.stdin
    assert process.stdout
    process.stdin.write("\n")
    process.stdin.flush()
    return process.stdout.readline().strip()


async def sync_on_a_broken_disk(process: subprocess.Popen[str]) -> tuple[bool, str]:
    async with failing_fsync([psutil.Process(process.pid)]) as attached:
        return attached, sync(process)


@pytest.mark.skipif(not may_trace(), reason="strace may not attach here")
def test_a_sync_fails_while_the_disk_is_broken(syncing: subprocess.Popen[str]) -> None:
    assert sync(syncing) == "synced"
    assert asyncio.run(sync_on_a_broken_disk(syncing)) == (True, "Input/output error")
    assert sync(syncing) == "synced"
    assert tracer(syncing.pid) == 0


@pytest.fixture
def forbidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a container forbids ptrace."""
    strace = tmp_path / "strace"
    strace.write_text("#!/bin/sh\nexit 1\n")
    strace.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")


@pytest.mark.usefixtures("forbidden")
def test_a_disk_that_could_not_be_broken_is_told_of(syncing: subprocess.Popen[str]) -> None:
    assert not may_trace()
    assert asyncio.run(sync_on_a_broken_disk(syncing)) == (False, "synced")


@pytest.mark.usefixtures("forbidden")
def test_who_was_gone_before_needs_no_disk(syncing: subprocess.Popen[str]) -> None:
    gone = psutil.Process(syncing.pid)
    syncing.kill()
    syncing.wait()

    async def break_its_disk() -> bool:
        async with failing_fsync([gone]) as attached:
            return attached

    assert asyncio.run(break_its_disk())
