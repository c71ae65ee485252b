"""What becomes of a worker's jobs when their clients want something of them."""

import asyncio
import threading
from dataclasses import replace
from datetime import UTC, datetime
from typing import Literal

from runtime.database import control
from runtime.database.leased import LeasedJob
from runtime.database.wishes import Wish
from schemas import topics
from schemas.codec import decode, new_traceparent
from schemas.errors import JobCancelled
from schemas.events import STOP_TYPE, ControlEvent, State, StatusEvent, StopEvent
from schemas.requests import GenerateRequest
from schemas.results import Choice, GenerateResult, Terminal
from tests.integration.workers.observe import ended, has, key, new_id, state, stored, value_of
from tests.integration.workers.rig import ECHO, Rig, Tail
from workers.context import JobContext
from workers.job import Handlers
from workers.worker import Worker

Action = Literal["cancel", "pause"]
PARTIAL = GenerateResult(choices=(Choice(0, 0, "so far", 2, "length"),))


def note(rig: Rig, item: LeasedJob, action: Action, *, keep_partial: bool = False) -> StopEvent:
    """Write the wish into the job's row, as the dispatcher does first."""
    wish = ControlEvent(action=action, job_id=item.job.id, keep_partial=keep_partial)
    with rig.database.begin() as connection:
        (told,) = control.apply(connection, [Wish(wish)], lambda: datetime.now(UTC))
    assert told.stop is not None
    return told.stop


def tell(rig: Rig, worker: Worker, stop: StopEvent) -> None:
    """Put the stop into the worker's partition, as the dispatcher does second."""
    rig.servers.publisher.publish(
        topics.WORK,
        stop,
        key=stop.lease.job_id,
        event_id=f"{stop.lease.job_id}/stop",
        traceparent=new_traceparent(),
        partition=worker.partition,
        event_type=STOP_TYPE,
    )


class Looping:
    """A handler that goes on in the trainer's thread until it is stopped, and then keeps what it has."""

    def __init__(self) -> None:
        self.begun = threading.Event()

    @property
    def handlers(self) -> Handlers:
        return replace(ECHO, generate=self.generate)

    async def generate(self, _: GenerateRequest, ctx: JobContext) -> GenerateResult:
        try:
            await ctx.run(self._loop, ctx)
        except JobCancelled as stop:
            ctx.partial = PARTIAL if stop.keep_partial else None
            raise
        raise AssertionError("nobody stopped it")

    def _loop(self, ctx: JobContext) -> None:
        self.begun.set()
        while True:
            ctx.check()


def test_a_running_job_stops_at_its_next_check_and_what_it_has_is_kept(rig: Rig) -> None:
    job_id, looping = new_id(), Looping()

    async def run() -> None:
        async with rig.worker(looping.handlers) as worker:
            (item,) = rig.give(worker, job_id)
            assert await asyncio.to_thread(looping.begun.wait, 10)
            stop = note(rig, item, "cancel", keep_partial=True)
            for _ in range(2):
                tell(rig, worker, stop)
            await ended(rig, Terminal.CANCELLED)

    asyncio.run(run())
    event = stored(rig, job_id)
    assert event is not None
    assert (event.status, event.result) == (Terminal.CANCELLED, PARTIAL)
    assert state(rig, job_id) is State.CANCELLED


def test_a_stop_that_lies_before_its_job_is_remembered_for_it(rig: Rig) -> None:
    job_id = new_id()

    async def run() -> None:
        async with rig.worker() as worker:
            jobs = rig.lease(worker.id, [job_id])
            tell(rig, worker, note(rig, jobs[0], "cancel"))
            rig.send(worker.partition, jobs)
            await ended(rig, Terminal.CANCELLED)

    asyncio.run(run())
    assert state(rig, job_id) is State.CANCELLED


def test_a_wish_that_nobody_told_the_worker_is_heard_when_it_renews_its_leases(rig: Rig) -> None:
    job_id, looping = new_id(), Looping()

    async def run() -> None:
        async with rig.worker(looping.handlers) as worker:
            (item,) = rig.give(worker, job_id)
            assert await asyncio.to_thread(looping.begun.wait, 10)
            note(rig, item, "cancel")
            await ended(rig, Terminal.CANCELLED)

    asyncio.run(run())
    event = stored(rig, job_id)
    assert event is not None
    assert event.result is None


def test_a_paused_job_gives_its_lease_back_and_its_slot(rig: Rig, kafka: str) -> None:
    job_id, next_id, looping = new_id(), new_id(), Looping()

    async def run() -> None:
        with Tail(kafka, topics.STATUS) as states:
            async with rig.worker(looping.handlers) as worker:
                (item,) = rig.give(worker, job_id)
                assert await asyncio.to_thread(looping.begun.wait, 10)
                tell(rig, worker, note(rig, item, "pause"))
                await ended(rig, "returned")
                looping.begun.clear()
                (next_item,) = rig.give(worker, next_id)
                assert await asyncio.to_thread(looping.begun.wait, 10)
                tell(rig, worker, note(rig, next_item, "cancel"))
                await ended(rig, Terminal.CANCELLED)
            announced = await states.until(has(job_id, 2))
        told = [decode(StatusEvent, record.value() or b"").state for record in announced if key(record) == job_id]
        assert told == [State.LOADING, State.PAUSED]

    asyncio.run(run())
    assert state(rig, job_id) is State.PAUSED
    assert stored(rig, job_id) is None


def test_stops_for_others_and_bytes_that_are_no_stop_are_skipped(rig: Rig) -> None:
    job_id = new_id()

    async def run() -> None:
        async with rig.worker() as worker:
            (other,) = rig.lease("another-worker", [new_id()])
            tell(rig, worker, note(rig, other, "cancel"))
            rig.servers.publisher.publish_raw(
                topics.WORK.name, b"x", b"{}", [("ce_type", STOP_TYPE.encode())], worker.partition
            )
            rig.give(worker, job_id)
            await ended(rig, Terminal.SUCCEEDED)
            assert value_of(rig, "headrace_worker_records_malformed_total") == 1

    asyncio.run(run())
    assert state(rig, job_id) is State.SUCCEEDED
