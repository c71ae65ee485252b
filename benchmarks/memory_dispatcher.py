"""What a dispatcher's process takes with 100,000 jobs in its queue: the real one, which has read them from Postgres."""

import os
import re
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from urllib.request import urlopen
from uuid import uuid4

from benchmarks.figure import Bar, Figure, compare
from benchmarks.headrace import platform, prepare
from deploy.local.ports import free_ports
from runtime.database import Database, admissions
from runtime.database.admissions import Admission, Source, request_digest
from schemas.codec import new_traceparent
from schemas.requests import GenerateRequest
from schemas.topics import REQUESTS, Kind
from streams.costs import cost_of

NAME: Final = "memory.dispatcher"
JOBS: Final = 100_000
TENANTS: Final = 1_000
MODELS: Final = 50
BATCH_JOBS: Final = 1_000
BAR_MB: Final = 300.0
#: How long it may take to read the queue and tell of it, and how long it is watched from then on.
READ_S: Final = 90.0
WATCH_S: Final = 15.0
WAITING: Final = re.compile(r'^headrace_dispatch_waiting_jobs\{.*kind="generate".*\} ([0-9.e+]+)$', re.MULTILINE)


def measure() -> Iterator[Figure]:
    """The largest resident size of the process, against the bar."""
    prepare()
    run = uuid4().hex[:8]
    with closing(Database(os.environ["HEADRACE_DATABASE"], "benchmark")) as database:
        fill(database, run)
        try:
            (port,) = free_ports(1)
            with platform(workers=0, settings={"HEADRACE_METRICS_PORT": str(port)}) as pids:
                wait_until_read(port)
                time.sleep(WATCH_S)
                peak_mb = peak_bytes(pids["dispatcher"]) / 1e6
        finally:
            empty(database, run)
    yield compare(NAME, "MB", Bar("at most", 1.0), [peak_mb], [BAR_MB], f"the bar, {BAR_MB:g} MB")


def fill(database: Database, run: str) -> None:
    """Queue the jobs, as intake does, of tenants whose names begin with ``run``."""
    for first in range(0, JOBS, BATCH_JOBS):
        with database.begin() as connection:
            admissions.admit(connection, [_admission(run, number) for number in range(first, first + BATCH_JOBS)])


def wait_until_read(port: int) -> None:
    """Wait until the dispatcher's metrics say that it holds all the jobs."""
    deadline = time.monotonic() + READ_S
    held = 0.0
    while held < JOBS:
        if time.monotonic() > deadline:
            raise RuntimeError(f"The dispatcher holds {held:g} of {JOBS} jobs after {READ_S:g} s")
        time.sleep(1.0)
        with urlopen(f"http://127.0.0.1:{port}/metrics") as page:
            shown = WAITING.findall(page.read().decode())
        held = max(map(float, shown), default=0.0)


def empty(database: Database, run: str) -> None:
    """Take the jobs out again."""
    with database.begin() as connection:
        connection.exec_driver_sql("DELETE FROM jobs WHERE tenant LIKE %s", (f"{run}-%",))


def peak_bytes(pid: int) -> int:
    """The largest resident size that the process ever had."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1_024 for line in lines if line.startswith("VmHWM:"))


def _admission(run: str, number: int) -> Admission:
    now = datetime.now(UTC)
    request = GenerateRequest(model=f"ft:example-base:dates:{number % MODELS:08x}", prompt="x" * 400, max_tokens=64)
    return Admission(
        tenant=f"{run}-{number % TENANTS}",
        id=uuid4().hex,
        kind=Kind.GENERATE,
        request=request,
        request_sha256=request_digest(request)[1],
        traceparent=new_traceparent(),
        source=Source(REQUESTS[Kind.GENERATE].name, 0, number),
        submitted_at=now,
        queued_at=now,
        cost=cost_of(request),
    )
