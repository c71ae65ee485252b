"""How a job waits for a server that is away."""

import asyncio
import errno
import os
from collections.abc import Iterable

import pytest

from schemas.errors import JobReturned, ServerUnreachable
from tests.unit.workers.fakes import context, job
from workers import outages
from workers.outages import insist

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
AWAY = ServerUnreachable("The artifact store", "s3://kept", "it is away")


class Server:
    """Fails with these, one after the other, and then answers."""

    def __init__(self, failures: Iterable[Exception]) -> None:
        self._failures = list(failures)
        self.called = asyncio.Event()

    async def call(self) -> str:
        self.called.set()
        if self._failures:
            raise self._failures.pop(0)
        return "answer"


@pytest.mark.parametrize("trouble", [AWAY, FULL], ids=["server", "disk"])
def test_a_job_waits_for_a_server_and_for_a_disk(trouble: Exception, caplog: pytest.LogCaptureFixture) -> None:
    assert asyncio.run(insist(context(job()), Server([trouble]).call)) == "answer"
    assert f"job job-1 waits: {trouble}" in caplog.text


def test_a_job_leaves_a_worker_whose_disk_stays_full_but_waits_for_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outages, "DISK_S", -1.0)
    assert asyncio.run(insist(context(job()), Server([AWAY]).call)) == "answer"
    with pytest.raises(ServerUnreachable, match="this worker"):
        asyncio.run(insist(context(job()), Server([FULL]).call))


@pytest.mark.parametrize("error", [FileNotFoundError(errno.ENOENT, "none"), ValueError("no"), OSError("no")], ids=repr)
def test_what_no_wait_mends_is_not_waited_for(error: Exception) -> None:
    with pytest.raises(type(error)):
        asyncio.run(insist(context(job()), Server([error]).call))


def test_a_job_that_waits_stops_when_it_is_told_to() -> None:
    async def run() -> None:
        ctx, server = context(job()), Server([AWAY] * 1_000)
        waiting = asyncio.create_task(insist(ctx, server.call))
        await server.called.wait()
        ctx.stop(JobReturned("the worker leaves"))
        with pytest.raises(JobReturned):
            await waiting

    asyncio.run(run())
