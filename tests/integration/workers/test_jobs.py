"""What becomes of the jobs that are given to a worker."""

import asyncio
import threading
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from confluent_kafka import Message
from sqlalchemy import text

from schemas import topics
from schemas.codec import decode
from schemas.errors import DatasetInvalid, LeaseLost, ServerUnreachable
from schemas.events import State, StatusEvent
from schemas.requests import GenerateRequest
from schemas.results import Choice, GenerateResult, Terminal
from tests.integration.workers.observe import (
    beats,
    ended,
    has,
    key,
    new_id,
    outbox,
    state,
    stored,
    take_away,
    value_of,
)
from tests.integration.workers.rig import ECHO, Rig, Tail, echo
from workers.context import JobContext
from workers.returns import DELAY_S


def test_a_job_ends_in_one_row_and_leaves_its_event_to_the_relay(rig: Rig, kafka: str) -> None:
    job_id = new_id()

    async def run() -> None:
        with Tail(kafka, topics.STATUS) as states:
            async with rig.worker() as worker:
                (item,) = rig.give(worker, job_id)
                announced = await states.until(has(job_id, 2))
        (event,) = outbox(rig, job_id)
        assert event.status is Terminal.SUCCEEDED
        assert isinstance(event.result, GenerateResult)
        assert event.lineage.request == item.job.request_sha256
        assert stored(rig, job_id) == event
        statuses = [decode(StatusEvent, record.value() or b"") for record in announced if key(record) == job_id]
        assert [status.state for status in statuses] == [State.LOADING, State.RUNNING]

    asyncio.run(run())


def test_an_attempt_whose_epoch_is_old_changes_nothing(rig: Rig) -> None:
    job_id = new_id()

    async def run() -> None:
        async with rig.worker() as worker:
            jobs = rig.lease(worker.id, [job_id])
            take_away(rig, job_id)
            rig.send(worker.partition, jobs)
            await ended(rig, "lost")
        assert stored(rig, job_id) is None
        assert state(rig, job_id) is State.SCHEDULED

    asyncio.run(run())


def test_a_job_that_is_lost_while_it_runs_is_stopped_at_its_next_check(rig: Rig) -> None:
    job_id = new_id()
    begun, lost = threading.Event(), threading.Event()

    def compute(ctx: JobContext) -> None:
        begun.set()
        try:
            while True:
                ctx.check()
        except LeaseLost:
            lost.set()
            raise

    async def generate(request: GenerateRequest, ctx: JobContext) -> GenerateResult:
        await ctx.run(compute, ctx)
        return await echo(request, ctx)

    async def run() -> None:
        async with rig.worker(replace(ECHO, generate=generate)) as worker:
            rig.give(worker, job_id)
            assert await asyncio.to_thread(begun.wait, 10)
            take_away(rig, job_id)
            assert await asyncio.to_thread(lost.wait, rig.settings.lease_s)
        assert stored(rig, job_id) is None

    asyncio.run(run())


def test_a_bug_in_a_handler_frees_its_slot_and_leaves_the_job_to_the_reaper(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    bad = [new_id() for _ in range(2 * rig.settings.generate_slots)]
    good = [new_id() for _ in range(rig.settings.generate_slots)]

    async def generate(request: GenerateRequest, ctx: JobContext) -> GenerateResult:
        if ctx.job.id in bad:
            raise ZeroDivisionError
        return await echo(request, ctx)

    async def run() -> None:
        async with rig.worker(replace(ECHO, generate=generate)) as worker:
            rig.ask(worker, len(bad) + len(good))
            rig.give(worker, *bad)
            rig.give(worker, *good)
            await ended(rig, Terminal.SUCCEEDED, len(good))

    asyncio.run(run())
    assert all(stored(rig, job_id) for job_id in good)
    assert not any(stored(rig, job_id) for job_id in bad)
    assert {state(rig, job_id) for job_id in bad} <= {State.SCHEDULED, State.RUNNING}
    crashes = [record for record in caplog.records if record.exc_info and record.exc_info[0] is ZeroDivisionError]
    assert all(any(job_id in record.getMessage() for record in crashes) for job_id in bad)


def test_an_error_of_the_job_is_its_result(rig: Rig) -> None:
    job_id = new_id()

    async def generate(_: GenerateRequest, __: JobContext) -> GenerateResult:
        raise DatasetInvalid("it is no JSON", line=7)

    async def run() -> None:
        async with rig.worker(replace(ECHO, generate=generate)) as worker:
            rig.give(worker, job_id)
            await ended(rig, Terminal.FAILED)

    asyncio.run(run())
    event = stored(rig, job_id)
    assert event is not None
    assert event.error is not None
    assert (event.status, event.error.code) == (Terminal.FAILED, "dataset_invalid")
    assert "Line 7" in event.error.message


def test_a_deadline_that_passes_after_the_lease_gives_expired_and_the_handler_is_not_called(rig: Rig) -> None:
    job_id = new_id()
    calls: list[str] = []

    async def generate(request: GenerateRequest, ctx: JobContext) -> GenerateResult:
        calls.append(ctx.job.id)
        return await echo(request, ctx)

    async def run() -> None:
        late = GenerateRequest(model="none", prompt="hello", deadline=datetime.now(UTC) - timedelta(seconds=1))
        async with rig.worker(replace(ECHO, generate=generate)) as worker:
            (item,) = rig.lease(worker.id, [job_id])
            rig.send(worker.partition, [replace(item, job=msgspec.structs.replace(item.job, request=late))])
            await ended(rig, Terminal.EXPIRED)

    asyncio.run(run())
    event = stored(rig, job_id)
    assert event is not None
    assert event.status is Terminal.EXPIRED
    assert calls == []


def test_work_is_taken_while_every_slot_computes(rig: Rig, kafka: str) -> None:
    slots = rig.settings.generate_slots
    ids = [new_id() for _ in range(3 * slots)]
    finish = threading.Event()

    async def generate(request: GenerateRequest, ctx: JobContext) -> GenerateResult:
        await ctx.run(finish.wait)
        return await echo(request, ctx)

    async def run() -> None:
        with Tail(kafka, topics.WORKERS) as heartbeats:
            async with rig.worker(replace(ECHO, generate=generate)) as worker:
                (first,) = beats(await heartbeats.until(lambda records: bool(records)), worker.id)[:1]
                rig.ask(worker, len(ids))
                rig.give(worker, *ids)

                def all_taken(records: list[Message]) -> bool:
                    return beats(records, worker.id)[-1].position == first.position + len(ids)

                last = beats(await heartbeats.until(all_taken), worker.id)[-1]
                assert (first.free.generate, last.free.generate) == (slots, 0)
                finish.set()
                await ended(rig, Terminal.SUCCEEDED, len(ids))

    asyncio.run(run())
    assert all(stored(rig, job_id) for job_id in ids)


def test_jobs_beyond_the_slots_start_in_their_order(rig: Rig) -> None:
    ids = [new_id() for _ in range(5 * rig.settings.generate_slots)]
    started: list[str] = []
    at_once: Counter[int] = Counter()

    async def generate(request: GenerateRequest, ctx: JobContext) -> GenerateResult:
        started.append(ctx.job.id)
        at_once[0] += 1
        at_once[1] = max(at_once[0], at_once[1])
        await asyncio.sleep(0)
        at_once[0] -= 1
        return await echo(request, ctx)

    async def run() -> None:
        async with rig.worker(replace(ECHO, generate=generate)) as worker:
            rig.ask(worker, len(ids))
            jobs = {item.job.id: item for item in rig.lease(worker.id, ids)}
            rig.send(worker.partition, [jobs[job_id] for job_id in ids])
            await ended(rig, Terminal.SUCCEEDED, len(ids))

    asyncio.run(run())
    assert started == ids
    assert at_once[1] == rig.settings.generate_slots


def test_a_record_that_is_no_work_is_counted_and_the_next_job_runs(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    job_id = new_id()

    async def run() -> None:
        async with rig.worker() as worker:
            for value in (b"", b"\xff\x00", b'{"job": 1}', b"[" * 10_000, None):
                rig.servers.publisher.publish_raw(topics.WORK.name, b"x", value, [], worker.partition)
            rig.give(worker, job_id)
            await ended(rig, Terminal.SUCCEEDED)

    asyncio.run(run())
    assert stored(rig, job_id)
    assert value_of(rig, "headrace_worker_records_malformed_total") == 5
    assert "is skipped" in caplog.text


def test_a_record_for_another_worker_is_left_alone(rig: Rig) -> None:
    theirs, ours = new_id(), new_id()

    async def run() -> None:
        async with rig.worker() as worker:
            rig.send(worker.partition, rig.lease("somebody-else", [theirs]))
            rig.give(worker, ours)
            await ended(rig, Terminal.SUCCEEDED)

    asyncio.run(run())
    assert stored(rig, ours)
    assert stored(rig, theirs) is None


def test_a_record_that_comes_twice_runs_once(rig: Rig) -> None:
    first, last = new_id(), new_id()
    calls: Counter[str] = Counter()
    finish = asyncio.Event()

    async def generate(request: GenerateRequest, ctx: JobContext) -> GenerateResult:
        calls[ctx.job.id] += 1
        if ctx.job.id == first:
            await finish.wait()
        return await echo(request, ctx)

    async def run() -> None:
        async with rig.worker(replace(ECHO, generate=generate)) as worker:
            rig.send(worker.partition, rig.give(worker, first))
            rig.give(worker, last)
            await ended(rig, Terminal.SUCCEEDED)
            finish.set()
            await ended(rig, Terminal.SUCCEEDED, 2)

    asyncio.run(run())
    assert calls == {first: 1, last: 1}


def test_a_job_that_is_told_again_after_its_end_or_its_crash_does_not_run_again(rig: Rig) -> None:
    good, bad, last = new_id(), new_id(), new_id()
    calls: Counter[str] = Counter()

    async def generate(request: GenerateRequest, ctx: JobContext) -> GenerateResult:
        calls[ctx.job.id] += 1
        if ctx.job.id == bad:
            raise ZeroDivisionError
        return await echo(request, ctx)

    async def run() -> None:
        async with rig.worker(replace(ECHO, generate=generate)) as worker:
            first = rig.give(worker, bad, good)
            await ended(rig, Terminal.SUCCEEDED)
            rig.send(worker.partition, first, again=True)
            rig.give(worker, last)
            await ended(rig, Terminal.SUCCEEDED, 2)
            await ended(rig, "lost")

    asyncio.run(run())
    assert calls == {good: 1, bad: 1, last: 1}


def test_a_job_that_is_told_again_before_it_was_heard_of_runs_once(rig: Rig) -> None:
    job_id, last = new_id(), new_id()
    calls: Counter[str] = Counter()

    async def generate(request: GenerateRequest, ctx: JobContext) -> GenerateResult:
        calls[ctx.job.id] += 1
        return await echo(request, ctx)

    async def run() -> None:
        async with rig.worker(replace(ECHO, generate=generate)) as worker:
            leased = rig.lease(worker.id, [job_id])
            rig.send(worker.partition, leased, again=True)
            rig.send(worker.partition, leased, again=True)
            rig.give(worker, last)
            await ended(rig, Terminal.SUCCEEDED, 2)

    asyncio.run(run())
    assert calls == {job_id: 1, last: 1}


def test_an_outcome_that_postgres_refuses_takes_no_other_along(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    bad, good = new_id(), new_id()
    gate = asyncio.Barrier(2)

    async def generate(request: GenerateRequest, ctx: JobContext) -> GenerateResult:
        if ctx.job.id == bad:
            ctx.meter.prompt_tokens = 2**70
        await gate.wait()  # so that both ends are stored together
        return await echo(request, ctx)

    async def run() -> None:
        async with rig.worker(replace(ECHO, generate=generate)) as worker:
            rig.give(worker, bad, good)
            await ended(rig, Terminal.SUCCEEDED)
            await ended(rig, "crashed")

    asyncio.run(run())
    assert stored(rig, good)
    assert stored(rig, bad) is None
    assert f"job {bad}: attempt 1 crashed" in caplog.text
    assert "storing them one by one" in caplog.text


def test_a_result_that_no_event_can_carry_is_refused_with_the_limit(rig: Rig) -> None:
    job_id = new_id()

    async def generate(_: GenerateRequest, __: JobContext) -> GenerateResult:
        return GenerateResult(choices=(Choice(0, 0, "x" * 9_000_000, 1, "length"),))

    async def run() -> None:
        async with rig.worker(replace(ECHO, generate=generate)) as worker:
            rig.give(worker, job_id)
            await ended(rig, Terminal.FAILED)

    asyncio.run(run())
    event = stored(rig, job_id)
    assert event is not None
    assert event.error is not None
    assert event.error.code == "unsupported"
    assert "the limit is 8,323,072" in event.error.message


def test_a_running_job_may_finish_after_the_worker_was_told_to_stop(rig: Rig) -> None:
    job_id = new_id()
    begun, finish = threading.Event(), threading.Event()

    def compute() -> None:
        begun.set()
        finish.wait(10)

    async def generate(request: GenerateRequest, ctx: JobContext) -> GenerateResult:
        await ctx.run(compute)
        return await echo(request, ctx)

    async def run() -> None:
        async with rig.worker(replace(ECHO, generate=generate)) as worker:
            rig.give(worker, job_id)
            assert await asyncio.to_thread(begun.wait, 10)
            asyncio.get_running_loop().call_soon(finish.set)

    asyncio.run(run())
    assert [event.status for event in outbox(rig, job_id)] == [Terminal.SUCCEEDED]


def test_a_job_that_meets_a_server_that_is_away_goes_on_a_little_later_in_the_same_attempt(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    job_id = new_id()

    async def generate(_: GenerateRequest, __: JobContext) -> GenerateResult:
        raise ServerUnreachable("The artifact store", "s3://store", "timed out")

    async def run() -> None:
        async with rig.worker(replace(ECHO, generate=generate)) as worker:
            rig.give(worker, job_id)
            await ended(rig, "returned")

    asyncio.run(run())
    statement = text(
        "SELECT state, attempt, lost_attempts, extract(epoch FROM available_at - scheduled_at) FROM jobs WHERE id = :id"
    )
    with rig.database.begin() as connection:
        state_, attempt, lost, delay_s = connection.execute(statement, {"id": job_id}).one()
    assert (state_, attempt, lost) == ("queued", 1, 0)
    assert delay_s >= DELAY_S / 2
    assert stored(rig, job_id) is None
    assert "goes on later: The artifact store at s3://store is not reachable" in caplog.text
