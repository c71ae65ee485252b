"""Faults of the servers' own making: backends that end, a cache that lies, disks that refuse to sync."""

import asyncio
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Final

import psutil
import psycopg2
import redis

TIMEOUT_S: Final = 5
#: The longest that Postgres takes to replay its log, on a machine that does other things.
RECOVERS_S: Final = 30.0
POLL_S: Final = 0.02
#: As in proc(5).
TRACER: Final = re.compile(r"^TracerPid:\s+(\d+)$", re.MULTILINE)
#: What Postgres and Kafka call to have their bytes on the disk.
SYNCING: Final = "fsync,fdatasync,sync_file_range"


def kill_backend(dsn: str) -> None:
    """SIGKILL one backend that works for Headrace: Postgres then restarts all of them, and recovers."""
    with closing(_connected(dsn)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT pid FROM pg_stat_activity WHERE application_name <> '' AND pid <> pg_backend_pid()")
        pids = [pid for (pid,) in cursor]
    for pid in pids[:1]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def terminate_backends(dsn: str) -> None:
    """End every connection of Headrace."""
    with closing(_connected(dsn)) as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )


def _connected(dsn: str) -> psycopg2.extensions.connection:
    """A connection, once Postgres takes one: it may recover from the fault before."""
    deadline_s = time.monotonic() + RECOVERS_S
    while True:
        try:
            return psycopg2.connect(dsn, connect_timeout=TIMEOUT_S)
        except psycopg2.OperationalError:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(POLL_S)


def flush_redis(url: str) -> None:
    """Empty it."""
    with redis.Redis.from_url(url, socket_timeout=TIMEOUT_S) as client, suppress(redis.RedisError):
        client.flushall()


def spoil_redis(url: str) -> None:
    """Replace every value by other bytes of the same length, and some by those of another type."""
    with redis.Redis.from_url(url, socket_timeout=TIMEOUT_S) as client, suppress(redis.RedisError):
        for number, key in enumerate(client.scan_iter()):
            kind = client.type(key)
            client.delete(key)
            if number % 3 == 0:
                client.lpush(key, b"no such type")
            else:
                client.set(key, os.urandom(64) if kind != b"string" else os.urandom(4_096))


def may_trace() -> bool:
    """Whether strace may attach here to processes that it did not start."""
    if shutil.which("strace") is None:
        return False
    with subprocess.Popen(("sleep", "60")) as sleeper:
        strace = subprocess.Popen(
            ("strace", "-qq", "-o", "/dev/null", "-p", str(sleeper.pid)), stderr=subprocess.DEVNULL
        )
        try:
            while strace.poll() is None:
                if tracer(sleeper.pid) == strace.pid:
                    return True
                time.sleep(POLL_S)
            return False
        finally:
            sleeper.kill()
            strace.wait()


def tracer(pid: int) -> int:
    """Which process traces this one; 0 where none does."""
    with suppress(FileNotFoundError, ProcessLookupError):
        found = TRACER.search(Path(f"/proc/{pid}/status").read_text())
        return int(found[1]) if found else 0
    return 0


@asynccontextmanager
async def failing_fsync(processes: Sequence[psutil.Process]) -> AsyncIterator[bool]:
    """Have every sync of these processes fail as on a broken disk; False where one lives that can't be traced."""
    pids = [part for process in processes for part in ("-p", str(process.pid))]
    injection = f"inject={SYNCING}:error=EIO"
    strace = await asyncio.create_subprocess_exec(
        "strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={SYNCING}", "-e", injection, *pids,
        stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield await _attached(strace, processes)
    finally:
        # It detaches, and they go on; it is gone already where all of them are.
        with suppress(ProcessLookupError):
            strace.terminate()
        await strace.wait()


async def _attached(strace: asyncio.subprocess.Process, processes: Sequence[psutil.Process]) -> bool:
    while strace.returncode is None:
        if any(tracer(process.pid) == strace.pid for process in processes):
            return True
        await asyncio.sleep(POLL_S)
    # Another fault may have ended them before.
    return not any(_lives(process) for process in processes)


def _lives(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False
