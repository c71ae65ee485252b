"""What handlers may rely on in their context."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from schemas.errors import JobCancelled, JobPaused, JobReturned, LeaseLost
from schemas.events import CountProgress, LogProgress, State, TextProgress, TrainProgress
from tests.unit.workers.fakes import FakeAnnouncer, context, job
from workers.progress import Count, LogLine, TextChunk, TrainStep


def test_a_job_that_nobody_stops_goes_on() -> None:
    context(job()).check()


def test_a_stop_is_seen_at_the_next_check_in_every_thread() -> None:
    ctx = context(job())
    ctx.stop(JobCancelled("the user asked for it"))
    with pytest.raises(JobCancelled, match="the user asked for it"):
        ctx.check()
    with ThreadPoolExecutor(1) as thread, pytest.raises(JobCancelled):
        thread.submit(ctx.check).result()


def test_threads_that_are_stopped_get_errors_of_their_own() -> None:
    ctx = context(job())
    ctx.stop(JobCancelled("stop"))
    errors = []
    for _ in range(2):
        with pytest.raises(JobCancelled) as caught:
            ctx.check()
        errors.append(caught.value)
    assert errors[0] is not errors[1]


def test_an_end_outweighs_a_suspension_and_keeps_what_it_says() -> None:
    ctx = context(job())
    ctx.stop(JobReturned("the worker leaves"))
    ctx.stop(JobPaused("the client waits"))
    with pytest.raises(JobReturned):
        ctx.check()
    ctx.stop(JobCancelled("by the client", keep_partial=True))
    with pytest.raises(JobCancelled, match="by the client") as caught:
        ctx.check()
    assert caught.value.keep_partial


def test_the_first_reason_to_stop_stays_but_for_a_lost_lease() -> None:
    ctx = context(job())
    ctx.stop(JobCancelled("first"))
    ctx.stop(JobCancelled("second"))
    with pytest.raises(JobCancelled, match="first"):
        ctx.check()
    ctx.stop(LeaseLost("another has it"))
    ctx.stop(JobCancelled("third"))
    with pytest.raises(LeaseLost, match="another has it"):
        ctx.check()


def test_progress_is_numbered_in_the_order_in_which_it_is_announced() -> None:
    announcer = FakeAnnouncer()
    ctx = context(job(), announcer)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda done: ctx.report(Count(done, 500, "tokens")), range(500)))
    assert [event.sequence for event in announcer.events] == list(range(500))


def test_each_kind_of_progress_becomes_its_event() -> None:
    announcer = FakeAnnouncer()
    ctx = context(job(), announcer)
    ctx.report(TrainStep(3, 10, 0.5, 2e-4, 1_000.0, 7.0))
    ctx.report(Count(1, 2, "examples"))
    ctx.report(TextChunk(0, 1, "2026"))
    ctx.report(LogLine("warning", "careful"))
    train, count, text, line = announcer.events
    assert isinstance(train, TrainProgress)
    assert (train.step, train.steps, train.loss, train.remaining_s) == (3, 10, 0.5, 7.0)
    assert isinstance(count, CountProgress)
    assert (count.done, count.total, count.unit) == (1, 2, "examples")
    assert isinstance(text, TextProgress)
    assert (text.prompt, text.index, text.text) == (0, 1, "2026")
    assert isinstance(line, LogProgress)
    assert (line.level, line.message) == ("warning", "careful")
    assert {(event.job_id, event.tenant, event.attempt) for event in announcer.events} == {("job-1", "default", 1)}


def test_a_state_is_announced_when_it_begins_and_not_again() -> None:
    announcer = FakeAnnouncer()
    ctx = context(job(), announcer)
    ctx.loading()
    ctx.running()
    ctx.running()
    assert announcer.states == [State.LOADING, State.RUNNING]


def test_work_for_the_trainer_does_not_begin_once_the_job_is_stopped() -> None:
    ctx = context(job())
    ctx.stop(JobCancelled("before its turn"))
    calls: list[int] = []
    with pytest.raises(JobCancelled):
        asyncio.run(ctx.run(calls.append, 1))
    assert calls == []


def test_a_stop_does_not_wait_for_the_job_that_has_the_trainer() -> None:
    ctx, begun, finish = context(job()), Event(), Event()
    calls: list[int] = []

    def occupy() -> None:
        begun.set()
        assert finish.wait(60)

    async def main() -> None:
        other = ctx.trainer.submit(occupy)
        assert await asyncio.to_thread(begun.wait, 60)
        waiting = asyncio.create_task(ctx.run(calls.append, 1))
        await asyncio.sleep(0)
        ctx.stop(JobCancelled("while another trains"))
        with pytest.raises(JobCancelled, match="while another trains"):
            await waiting
        assert not other.done()
        finish.set()

    asyncio.run(main())
    assert calls == []


def test_a_task_that_is_cancelled_while_it_waits_for_the_trainer_stays_cancelled() -> None:
    ctx, begun, finish = context(job()), Event(), Event()

    def occupy() -> None:
        begun.set()
        assert finish.wait(60)

    async def main() -> None:
        ctx.trainer.submit(occupy)
        assert await asyncio.to_thread(begun.wait, 60)
        waiting = asyncio.create_task(ctx.run(divmod, 7, 2))
        await asyncio.sleep(0)
        ctx.stop(JobCancelled("at the same time"))
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        finish.set()

    asyncio.run(main())


def test_the_trainer_answers_the_handler() -> None:
    ctx = context(job())
    assert asyncio.run(ctx.run(divmod, 7, 2)) == (3, 1)
