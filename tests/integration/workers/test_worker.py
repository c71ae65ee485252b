"""How a worker comes, stays and goes."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace

import pytest
import torch
from sqlalchemy import make_url, text

from runtime.database import Database
from runtime.database.thread import DatabaseThread
from runtime.monitoring import Metrics
from schemas import topics
from schemas.errors import LeaseLost, ServerUnreachable
from schemas.events import State
from schemas.requests import GenerateRequest
from schemas.results import GenerateResult, Terminal
from tests.integration.workers.gate import Gate
from tests.integration.workers.observe import beats, ended, new_id, state, stored, value_of
from tests.integration.workers.rig import DEADLINE_S, ECHO, Rig, Tail, echo
from tests.unit.workers.fakes import NoTunedModels
from workers.broken import WorkerBroken
from workers.consumer import Taken, WorkReader
from workers.context import JobContext
from workers.engine import EngineClosed
from workers.leases import PartitionLost
from workers.models import Models, Sources
from workers.worker import Worker


@pytest.fixture
def gate(migrated_url: str) -> Iterator[Gate]:
    address = make_url(migrated_url)
    with Gate(address.host or "127.0.0.1", address.port or 5432) as gate:
        yield gate


@pytest.fixture
def gated(rig: Rig, gate: Gate, migrated_url: str) -> Iterator[Rig]:
    """The rig with a worker that reaches Postgres through the gate."""
    address = make_url(migrated_url).set(host="127.0.0.1", port=gate.port)
    database = Database(address.render_as_string(hide_password=False))
    with closing(DatabaseThread(database)) as thread, closing(DatabaseThread(database)) as renewals:
        yield replace(rig, servers=replace(rig.servers, database=thread, renewals=renewals))
    database.close()


def test_a_worker_drains_says_goodbye_and_gives_its_partition_back(rig: Rig, kafka: str) -> None:
    async def run() -> None:
        with Tail(kafka, topics.WORKERS) as heartbeats:
            async with rig.worker() as worker:
                assert holder(rig, worker.partition) == worker.id
            told = beats(
                await heartbeats.until(lambda records: any(beat.leaving for beat in beats(records, worker.id))),
                worker.id,
            )
        first, last = told[0], told[-1]
        assert (first.draining, first.leaving, first.free.generate) == (False, False, rig.settings.generate_slots)
        assert (last.draining, last.leaving, last.free.generate) == (True, True, 0)
        assert holder(rig, worker.partition) is None

    asyncio.run(run())


def test_a_worker_tells_which_models_its_jobs_wait_for(rig: Rig, kafka: str) -> None:
    job_id = new_id()
    computing = Computing()

    async def run() -> None:
        with Tail(kafka, topics.WORKERS) as heartbeats:
            async with rig.worker(replace(ECHO, generate=computing.generate)) as worker:
                rig.give(worker, job_id)
                assert await asyncio.to_thread(computing.begun.wait, 10)
                # This worker has no models at all.
                await heartbeats.until(
                    lambda records: any(beat.loading == ("none",) for beat in beats(records, worker.id))
                )
            told = beats(await heartbeats.until(lambda records: beats(records, worker.id)[-1].leaving), worker.id)
        assert told[0].loading == ()
        assert told[-1].loading == ()

    asyncio.run(run())


def test_two_workers_read_partitions_of_their_own(rig: Rig) -> None:
    ids = [new_id(), new_id()]
    second = replace(rig, servers=replace(rig.servers, metrics=Metrics("worker")))

    async def run() -> None:
        async with rig.worker() as one, second.worker() as other:
            assert one.partition != other.partition
            rig.give(one, ids[0])
            rig.give(other, ids[1])
            await ended(rig, Terminal.SUCCEEDED)
            await ended(second, Terminal.SUCCEEDED)

    asyncio.run(run())
    assert all(stored(rig, job_id) for job_id in ids)


def test_a_worker_that_lost_its_partition_stops_its_jobs_and_fails(rig: Rig) -> None:
    job_id = new_id()
    computing = Computing()

    async def run() -> None:
        async with rig.worker(replace(ECHO, generate=computing.generate)) as worker:
            rig.give(worker, job_id)
            assert await asyncio.to_thread(computing.begun.wait, 10)
            with rig.database.begin() as connection:
                connection.execute(text("UPDATE workers SET worker_id = 'somebody-else'"))
            assert await asyncio.to_thread(computing.lost.wait, 10)

    with pytest.raises(PartitionLost, match="is another worker's"):
        asyncio.run(run())
    assert stored(rig, job_id) is None
    with rig.database.begin() as connection:
        connection.execute(text("DELETE FROM workers"))


@pytest.mark.parametrize(
    "error", [ZeroDivisionError(), EngineClosed("The engine is closed.")], ids=["device", "engine"]
)
def test_a_worker_that_can_not_compute_any_more_fails_and_gives_back_the_jobs_that_had_no_part_in_it(
    error: Exception, rig: Rig
) -> None:
    bad, good = new_id(), new_id()
    computing = Computing()

    async def generate(request: GenerateRequest, ctx: JobContext) -> GenerateResult:
        if ctx.job.id == bad:
            raise error
        return await computing.generate(request, ctx)

    async def run() -> None:
        # ``meta`` is a device that computes nothing.
        models = Models(Sources((), NoTunedModels(), rig.tools.artifacts), torch.device("meta"), 0)
        broken = replace(rig, tools=replace(rig.tools, models=models))
        async with broken.worker(replace(ECHO, generate=generate)) as worker:
            rig.give(worker, good)
            assert await asyncio.to_thread(computing.begun.wait, 10)
            rig.give(worker, bad)
            async with asyncio.timeout(DEADLINE_S):
                while state(rig, good) is not State.QUEUED:  # noqa: ASYNC110  rows tell nobody
                    await asyncio.sleep(0.02)

    with pytest.raises(WorkerBroken):
        asyncio.run(run())
    crashed = isinstance(error, ZeroDivisionError)
    assert (state(rig, bad) is State.QUEUED) is not crashed
    assert value_of(rig, "headrace_worker_jobs_total", status="returned") == (1 if crashed else 2)
    with rig.database.begin() as connection:
        connection.execute(text("DELETE FROM workers"))


class Stuck:
    """A reader whose client does not close."""

    position = 0

    def __init__(self) -> None:
        self.released = asyncio.Event()

    async def read(self, _take: Callable[[Taken], None]) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await self.released.wait()


def test_a_worker_that_fails_says_so_before_all_that_it_holds_has_let_go(rig: Rig) -> None:
    async def run() -> None:
        reader = Stuck()

        async def open_partition(*_given: object) -> WorkReader:
            return reader

        worker = Worker(rig.settings, replace(rig.servers, open_partition=open_partition), rig.tools, ECHO)
        failed = asyncio.Event()
        running = asyncio.create_task(worker.run(asyncio.Event(), failed.set))
        async with asyncio.timeout(DEADLINE_S):
            await worker.serving.wait()
            with rig.database.begin() as connection:
                connection.execute(text("UPDATE workers SET worker_id = 'somebody-else'"))
            await failed.wait()
            assert not running.done()
            reader.released.set()
            await running

    with pytest.raises(PartitionLost):
        asyncio.run(run())
    with rig.database.begin() as connection:
        connection.execute(text("DELETE FROM workers"))


def test_an_outcome_waits_for_a_postgres_that_is_away(rig: Rig, gated: Rig, gate: Gate) -> None:
    job_id = new_id()

    async def generate(request: GenerateRequest, ctx: JobContext) -> GenerateResult:
        gate.cut()
        asyncio.get_running_loop().call_later(gated.settings.lease_s / 3, gate.mend)
        return await echo(request, ctx)

    async def run() -> None:
        async with gated.worker(replace(ECHO, generate=generate)) as worker:
            rig.give(worker, job_id)
            await ended(gated, Terminal.SUCCEEDED)

    asyncio.run(run())
    assert stored(rig, job_id)


def test_a_worker_goes_on_while_postgres_is_silent_for_longer_than_its_leases(rig: Rig, gated: Rig, gate: Gate) -> None:
    job_id = new_id()
    computing = Computing()

    async def run() -> None:
        async with gated.worker(replace(ECHO, generate=computing.generate)) as worker:
            rig.give(worker, job_id)
            assert await asyncio.to_thread(computing.begun.wait, 10)
            gate.freeze()
            assert not await asyncio.to_thread(computing.lost.wait, 2 * gated.settings.lease_s)
            gate.mend()
            computing.done.set()
            await ended(gated, Terminal.SUCCEEDED)
            assert holder(rig, worker.partition) == worker.id

    asyncio.run(run())
    assert stored(rig, job_id)


def test_leases_are_renewed_while_postgres_takes_long_to_store_a_result(rig: Rig) -> None:
    ended_id, running_id = new_id(), new_id()
    computing = Computing()

    async def generate(request: GenerateRequest, ctx: JobContext) -> GenerateResult:
        if ctx.job.id == ended_id:
            return await echo(request, ctx)
        return await computing.generate(request, ctx)

    async def run() -> None:
        async with rig.worker(replace(ECHO, generate=generate)) as worker:
            rig.give(worker, running_id)
            assert await asyncio.to_thread(computing.begun.wait, 10)
            leased = rig.lease(worker.id, [ended_id])
            with rig.database.begin() as somebody:
                somebody.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
                somebody.execute(text("SELECT FROM jobs WHERE id = :id FOR UPDATE"), {"id": ended_id})
                rig.send(worker.partition, leased)
                assert not await asyncio.to_thread(computing.lost.wait, 2 * rig.settings.lease_s)
                assert overdue(rig) == 0
            computing.done.set()
            await ended(rig, Terminal.SUCCEEDED, 2)

    asyncio.run(run())
    assert stored(rig, ended_id)
    assert stored(rig, running_id)


def test_a_worker_that_cannot_reach_postgres_says_so(gated: Rig, gate: Gate) -> None:
    gate.cut()

    async def run() -> None:
        async with gated.worker():
            pass

    with pytest.raises(ServerUnreachable, match="Postgres at"):
        asyncio.run(run())


class Computing:
    """A handler that computes until it is stopped."""

    def __init__(self) -> None:
        self.begun, self.lost, self.done = threading.Event(), threading.Event(), threading.Event()

    async def generate(self, request: GenerateRequest, ctx: JobContext) -> GenerateResult:
        """Answer once it is ``done``."""
        await ctx.run(self._compute, ctx)
        return await echo(request, ctx)

    def _compute(self, ctx: JobContext) -> None:
        self.begun.set()
        try:
            while not self.done.wait(0.001):  # as long as one step
                ctx.check()
        except LeaseLost:
            self.lost.set()
            raise


def holder(rig: Rig, partition: int) -> str | None:
    with rig.database.begin() as connection:
        found = connection.execute(text("SELECT worker_id FROM workers WHERE partition = :p"), {"p": partition})
        return found.scalar()


def overdue(rig: Rig) -> int:
    """Leases of jobs, and of a worker, that ran out."""
    statement = text(
        "SELECT (SELECT count(*) FROM jobs WHERE lease_expires_at < now()) "
        "+ (SELECT count(*) FROM workers WHERE lease_expires_at < now())"
    )
    with rig.database.begin() as connection:
        return int(connection.execute(statement).scalar_one())
