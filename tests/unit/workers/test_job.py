"""What a job comes to, by what its handler does."""

import asyncio
from contextlib import nullcontext
from dataclasses import dataclass, field

import pytest
from msgspec.structs import replace

from schemas.errors import DatasetInvalid, JobCancelled, JobExpired, JobReturned, LeaseLost, OutOfMemory
from schemas.events import Lease
from schemas.requests import Dataset as RequestDataset
from schemas.requests import EvaluateRequest, FineTuneRequest, GenerateRequest, Job, Metric, Record, Request
from schemas.results import (
    Choice,
    EvaluateResult,
    FineTuneResult,
    GenerateResult,
    Interval,
    ResultEvent,
    Score,
    Terminal,
)
from schemas.topics import Kind
from tests.unit.workers.fakes import context, job, work
from workers.attempt import RESULT_BYTES
from workers.context import JobContext
from workers.datasets import DatasetAway
from workers.job import DATASET_TRIES, Handlers, run_job

ANSWER = GenerateResult(choices=(Choice(0, 0, "hello", 1, "stop"),))
TUNED = FineTuneResult(
    model="ft:none:tuned:01234567",
    base="none",
    method="lora",
    artifact_uri="file:///store/abc",
    artifact_sha256="a" * 64,
    size_bytes=1,
    steps=1,
    examples=1,
    train_loss=0.1,
    train_s=0.1,
)
SCORED = EvaluateResult(
    model="none",
    examples=1,
    scores=(Score(metric=Metric.EXACT_MATCH, model=Interval(1.0, 1.0, 1.0)),),
    outputs_uri="file:///store/abc",
)
DATASET = RequestDataset(records=(Record(prompt="a", completion="b"),))


@dataclass
class FakeOutcomes:
    """Keeps the ends of attempts; ``held`` is what it answers."""

    held: bool = True
    events: list[ResultEvent] = field(default_factory=list)

    async def settle(self, _: Lease, event: ResultEvent) -> bool:
        """Keep the event."""
        self.events.append(event)
        return self.held


async def generate(_: GenerateRequest, ctx: JobContext) -> GenerateResult:
    ctx.meter.prompt_tokens, ctx.meter.completion_tokens = 5, 1
    ctx.meter.device_s, ctx.meter.load_s = 0.25, 0.5
    ctx.meter.base, ctx.meter.adapter, ctx.meter.dataset_sha256 = "none", "ft:none:x:01234567", "1" * 64
    return ANSWER


async def finetune(_: FineTuneRequest, __: JobContext) -> FineTuneResult:
    return TUNED


async def evaluate(_: EvaluateRequest, __: JobContext) -> EvaluateResult:
    return SCORED


HANDLERS = Handlers(generate, finetune, evaluate)


def raising(error: BaseException) -> Handlers:
    async def handler(_: GenerateRequest, __: JobContext) -> GenerateResult:
        raise error

    return Handlers(handler, finetune, evaluate)


def run(of: Job, handlers: Handlers = HANDLERS, outcomes: FakeOutcomes | None = None) -> ResultEvent | None:
    outcomes = outcomes or FakeOutcomes()
    return asyncio.run(run_job(work(of), context(of), handlers, nullcontext(), outcomes))


@pytest.mark.parametrize(
    ("request_", "result", "kind"),
    [
        (GenerateRequest(model="none", prompt="hello"), ANSWER, Kind.GENERATE),
        (FineTuneRequest(model="none", dataset=DATASET), TUNED, Kind.FINETUNE),
        (EvaluateRequest(model="none", dataset=DATASET), SCORED, Kind.EVALUATE),
    ],
)
def test_each_kind_goes_to_its_handler(request_: Request, result: object, kind: Kind) -> None:
    event = run(job(request_))
    assert event is not None
    assert (event.status, event.result, event.kind) == (Terminal.SUCCEEDED, result, kind)


def test_a_result_tells_what_it_used_how_long_it_took_and_what_it_was_made_from() -> None:
    event = run(job())
    assert event is not None
    assert (event.usage.prompt_tokens, event.usage.completion_tokens, event.usage.gpu_s) == (5, 1, 0.25)
    assert (event.timings.queued_s, event.timings.load_s) == (2.0, 0.5)
    assert event.timings.dispatched_s >= 0
    assert event.timings.run_s >= 0
    assert event.lineage.request == "0" * 64
    assert event.lineage.code
    assert (event.lineage.base, event.lineage.adapter) == ("none", "ft:none:x:01234567")
    assert event.lineage.dataset_sha256 == "1" * 64


@pytest.mark.parametrize(("error", "retryable"), [(DatasetInvalid("empty"), False), (OutOfMemory("8 GB"), True)])
def test_an_error_of_the_job_fails_it_with_its_code(error: DatasetInvalid | OutOfMemory, retryable: bool) -> None:
    event = run(job(), raising(error))
    assert event is not None
    assert event.status is Terminal.FAILED
    assert event.error is not None
    assert (event.error.code, event.error.message, event.error.retryable) == (error.code, str(error), retryable)


@pytest.mark.parametrize(
    ("stop", "status"), [(JobCancelled("asked"), Terminal.CANCELLED), (JobExpired("late"), Terminal.EXPIRED)]
)
def test_a_stop_is_no_failure(stop: JobCancelled | JobExpired, status: Terminal) -> None:
    event = run(job(), raising(stop))
    assert event is not None
    assert event.status is status
    assert event.error is not None
    assert event.error.code == stop.code


def test_a_lost_lease_writes_nothing() -> None:
    outcomes = FakeOutcomes()
    assert run(job(), raising(LeaseLost("another has it")), outcomes) is None
    assert outcomes.events == []


def test_an_end_that_comes_after_the_lease_was_lost_is_none() -> None:
    assert run(job(), HANDLERS, FakeOutcomes(held=False)) is None


def test_a_suspension_propagates_and_writes_nothing() -> None:
    outcomes = FakeOutcomes()
    with pytest.raises(JobReturned):
        run(job(), raising(JobReturned("the worker leaves")), outcomes)
    assert outcomes.events == []


def test_what_a_cancelled_job_has_kept_is_its_result() -> None:
    async def handler(_: GenerateRequest, ctx: JobContext) -> GenerateResult:
        ctx.partial = ANSWER
        raise JobCancelled("asked", keep_partial=True)

    event = run(job(), Handlers(handler, finetune, evaluate))
    assert event is not None
    assert (event.status, event.result) == (Terminal.CANCELLED, ANSWER)


def test_a_bug_propagates_and_writes_nothing() -> None:
    outcomes = FakeOutcomes()
    with pytest.raises(ZeroDivisionError):
        run(job(), raising(ZeroDivisionError()), outcomes)
    assert outcomes.events == []


def test_a_job_waits_for_its_slot_and_gives_it_back_before_its_end_is_stored() -> None:
    slot = asyncio.Semaphore(1)
    seen: list[bool] = []

    class Watching(FakeOutcomes):
        async def settle(self, lease: Lease, event: ResultEvent) -> bool:
            seen.append(slot.locked())
            return await super().settle(lease, event)

    async def handler(request: GenerateRequest, ctx: JobContext) -> GenerateResult:
        seen.append(slot.locked())
        return await generate(request, ctx)

    handlers = Handlers(handler, finetune, evaluate)
    asyncio.run(run_job(work(job()), context(job()), handlers, slot, Watching()))
    assert seen == [True, False]


@pytest.mark.parametrize(("text", "kept"), [("so far", True), ("x" * RESULT_BYTES, False)])
def test_what_a_cancelled_job_has_kept_is_its_result_unless_that_is_too_large(text: str, kept: bool) -> None:
    partial = GenerateResult(choices=(Choice(0, 0, text, 1, "length"),))

    async def handler(_: GenerateRequest, ctx: JobContext) -> GenerateResult:
        ctx.partial = partial
        raise JobCancelled("asked", keep_partial=True)

    event = run(job(), Handlers(handler, finetune, evaluate))
    assert event is not None
    assert event.status is Terminal.CANCELLED
    assert event.result == (partial if kept else None)
    assert event.error is not None
    assert ("Nothing is kept" in event.error.message) is not kept


def test_a_dataset_whose_place_stays_away_fails_its_job_in_the_end() -> None:
    def outcome(times_returned: int) -> ResultEvent | None:
        of = job()
        tried = replace(work(of), lease=Lease(of.tenant, of.id, 1 + times_returned, "worker-1"))
        away = raising(DatasetAway("http://nowhere/d.jsonl", "no such host"))
        return asyncio.run(run_job(tried, context(of), away, nullcontext(), FakeOutcomes()))

    with pytest.raises(DatasetAway):
        outcome(DATASET_TRIES - 1)
    event = outcome(DATASET_TRIES)
    assert event is not None
    assert event.error is not None
    assert event.error.code == "dataset_unreachable"
    assert "'http://nowhere/d.jsonl' can't be read: no such host" in event.error.message
