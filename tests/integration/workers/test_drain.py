"""What a worker that is told to stop does with its jobs: nothing is lost, and no attempt is charged."""

import asyncio
import threading
from dataclasses import replace

import msgspec
from sqlalchemy import text

from runtime.database import checkpoints
from runtime.database.queries import find_job
from schemas import topics
from schemas.codec import decode
from schemas.errors import JobReturned, JobSuspended
from schemas.events import State, StatusEvent
from schemas.requests import Dataset, FineTuneRequest, GenerateRequest, Record
from schemas.results import FineTuneResult, GenerateResult, Terminal
from tests.integration.workers.observe import ended, has, new_id, state, stored, value_of
from tests.integration.workers.rig import ECHO, Rig, Tail, echo
from workers.context import JobContext

TUNE = FineTuneRequest(model="none", dataset=Dataset(records=(Record(prompt="a", completion="b"),)))


class Position(msgspec.Struct, frozen=True):
    """A job's small state."""

    step: int


class Computing:
    """Handlers that compute in the trainer thread until they are stopped, or told to finish."""

    def __init__(self) -> None:
        self.begun, self.finish = threading.Semaphore(0), threading.Event()

    async def generate(self, request: GenerateRequest, ctx: JobContext) -> GenerateResult:
        """Compute beside other jobs."""
        await asyncio.to_thread(self._compute, ctx)
        return await echo(request, ctx)

    async def finetune(self, _: FineTuneRequest, ctx: JobContext) -> FineTuneResult:
        """Compute, and leave a checkpoint when the job is suspended."""
        try:
            await ctx.run(self._compute, ctx)
        except JobSuspended:
            await ctx.checkpoints.save(7, Position(7), lambda directory: (directory / "weights.txt").touch())
            raise
        raise AssertionError("nobody lets it finish")

    def _compute(self, ctx: JobContext) -> None:
        self.begun.release()
        while not self.finish.wait(0.001):  # as long as one step
            ctx.check()

    async def began(self, jobs: int) -> None:
        """Wait until so many more have begun."""
        for _ in range(jobs):
            assert await asyncio.to_thread(self.begun.acquire, timeout=10)


async def until(rig: Rig, job_id: str, wanted: State) -> None:
    """Wait for a job's state in Postgres."""
    async with asyncio.timeout(10):
        while await asyncio.to_thread(state, rig, job_id) is not wanted:  # noqa: ASYNC110  rows tell nobody
            await asyncio.sleep(0.02)


def attempt(rig: Rig, job_id: str) -> int:
    with rig.database.begin() as connection:
        row = find_job(connection, "default", job_id)
    assert row is not None
    return row.attempt


def test_jobs_without_a_slot_are_given_back_at_once_and_those_with_one_finish(rig: Rig) -> None:
    running, waiting = [new_id() for _ in range(rig.settings.generate_slots)], [new_id() for _ in range(3)]
    computing, stop = Computing(), asyncio.Event()

    async def run() -> None:
        async with rig.worker(replace(ECHO, generate=computing.generate), stop) as worker:
            rig.give(worker, *running)
            await computing.began(len(running))
            rig.ask(worker, len(running) + len(waiting))
            rig.give(worker, *waiting)
            await until(rig, waiting[-1], State.SCHEDULED)
            stop.set()
            for job_id in waiting:
                await until(rig, job_id, State.QUEUED)
            assert {state(rig, job_id) for job_id in running} <= {State.SCHEDULED, State.RUNNING}
            computing.finish.set()

    asyncio.run(run())
    assert all(stored(rig, job_id) for job_id in running)
    assert not any(stored(rig, job_id) for job_id in waiting)
    assert {attempt(rig, job_id) for job_id in waiting} == {1}


def test_a_job_that_comes_while_the_worker_drains_is_given_back(rig: Rig) -> None:
    first, late = new_id(), new_id()
    computing, stop = Computing(), asyncio.Event()

    async def run() -> None:
        async with rig.worker(replace(ECHO, generate=computing.generate), stop) as worker:
            rig.give(worker, first)
            await computing.began(1)
            stop.set()
            rig.give(worker, late)
            await until(rig, late, State.QUEUED)
            computing.finish.set()

    asyncio.run(run())
    assert stored(rig, first)
    assert not stored(rig, late)


def test_jobs_beyond_what_the_worker_asked_for_are_given_back(rig: Rig) -> None:
    first, more = new_id(), [new_id() for _ in range(3)]
    computing = Computing()

    async def run() -> None:
        async with rig.worker(replace(ECHO, finetune=computing.finetune)) as worker:
            rig.give(worker, first, request=TUNE)
            await computing.began(1)
            # Another dispatcher has the worker by now, and does not know of the first.
            rig.give(worker, *more, request=TUNE)
            for job_id in more:
                await until(rig, job_id, State.QUEUED)
            assert {attempt(rig, job_id) for job_id in more} == {1}
            assert state(rig, first) in {State.SCHEDULED, State.RUNNING}

    asyncio.run(run())


def test_a_fine_tune_leaves_a_checkpoint_and_is_given_back_as_the_same_attempt(rig: Rig, kafka: str) -> None:
    job_id = new_id()
    computing = Computing()

    async def run() -> None:
        with Tail(kafka, topics.STATUS) as states:
            async with rig.worker(replace(ECHO, finetune=computing.finetune)) as worker:
                rig.give(worker, job_id, request=TUNE)
                await computing.began(1)
            records = await states.until(has(job_id, 2))
        last = [decode(StatusEvent, record.value() or b"") for record in records if record.key() == job_id.encode()]
        assert (last[-1].state, last[-1].attempt) == (State.QUEUED, 1)

    asyncio.run(run())
    assert (state(rig, job_id), attempt(rig, job_id)) == (State.QUEUED, 1)
    assert value_of(rig, "headrace_worker_jobs_total", status="returned") == 1
    with rig.database.begin() as connection:
        left = checkpoints.find(connection, "default", job_id)
    assert left is not None
    assert left.position == 7


def test_a_generation_that_does_not_finish_in_time_is_given_back(rig: Rig) -> None:
    job_id = new_id()
    computing = Computing()

    async def run() -> None:
        async with rig.worker(replace(ECHO, generate=computing.generate)) as worker:
            rig.give(worker, job_id)
            await computing.began(1)

    asyncio.run(run())
    assert (state(rig, job_id), attempt(rig, job_id)) == (State.QUEUED, 1)


def test_a_job_that_does_not_stop_is_given_back_without_its_answer(rig: Rig) -> None:
    job_id = new_id()
    begun = threading.Event()

    async def stubborn(_: GenerateRequest, ctx: JobContext) -> GenerateResult:
        begun.set()
        while True:
            try:
                await asyncio.sleep(0.01)
                ctx.check()
            except JobReturned:
                await asyncio.Event().wait()

    async def run() -> None:
        async with rig.worker(replace(ECHO, generate=stubborn)) as worker:
            rig.give(worker, job_id)
            assert await asyncio.to_thread(begun.wait, 10)

    asyncio.run(run())
    assert (state(rig, job_id), attempt(rig, job_id)) == (State.QUEUED, 1)
    assert stored(rig, job_id) is None


def test_a_job_that_takes_longer_than_its_lease_stays_with_its_worker(rig: Rig) -> None:
    job_id = new_id()
    computing = Computing()

    async def run() -> None:
        async with rig.worker(replace(ECHO, generate=computing.generate)) as worker:
            rig.give(worker, job_id)
            await computing.began(1)
            assert not await asyncio.to_thread(computing.finish.wait, 2.5 * rig.settings.lease_s)
            with rig.database.begin() as connection:
                overdue = connection.execute(text("SELECT count(*) FROM jobs WHERE lease_expires_at < now()")).scalar()
            assert overdue == 0
            computing.finish.set()
            await ended(rig, Terminal.SUCCEEDED)

    asyncio.run(run())
    event = stored(rig, job_id)
    assert event is not None
    assert event.attempt == 1
