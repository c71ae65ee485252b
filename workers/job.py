"""One job to one outcome: START READING HERE.

``consumer`` brings a job, ``run_job`` calls the handler of its kind, ``outcomes`` stores and publishes
what it came to. What a handler may use is in ``context``.
"""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final, Protocol, assert_never

from schemas.errors import DatasetUnreachable, JobError, JobStopped, LeaseLost
from schemas.events import Lease, WorkEvent
from schemas.requests import EvaluateRequest, FineTuneRequest, GenerateRequest
from schemas.results import EvaluateResult, FineTuneResult, GenerateResult, Result, ResultEvent
from workers.attempt import Attempt
from workers.context import JobContext
from workers.datasets import DatasetAway
from workers.returns import times_returned

#: How often a job may have been given back before its dataset's place counts as wrong: with ``put_off``'s waits that
#: are seven minutes. A server that its client names may never have been there.
DATASET_TRIES: Final = 12


@dataclass(frozen=True)
class Handlers:
    """One function a kind of request."""

    generate: Callable[[GenerateRequest, JobContext], Awaitable[GenerateResult]]
    finetune: Callable[[FineTuneRequest, JobContext], Awaitable[FineTuneResult]]
    evaluate: Callable[[EvaluateRequest, JobContext], Awaitable[EvaluateResult]]


class Settles(Protocol):
    """Where ends of attempts go."""

    async def settle(self, lease: Lease, event: ResultEvent) -> bool:
        """Store and publish an end; False where the lease was lost, and nothing was written."""


async def run_job(
    work: WorkEvent,
    ctx: JobContext,
    handlers: Handlers,
    slot: AbstractAsyncContextManager[None],
    outcomes: Settles,
) -> ResultEvent | None:
    """Run a job in a slot to its one outcome, or to None where another attempt owns it by now.

    A ``JobError`` is the job's fault and its result, and so is a dataset that stays out of reach. Anything else
    propagates with the lease still held: ``JobSuspended`` and ``ServerUnreachable``, after which the caller gives the
    lease back, and bugs; the reaper counts those attempts.
    """
    attempt = Attempt(work)
    try:
        # Given back before the outcome is stored: the next job need not wait for that.
        async with slot:
            ctx.check()
            ctx.loading()
            event = attempt.succeeded(ctx, await handle(ctx, handlers))
    except JobError as error:
        event = attempt.failed(ctx, error)
    except DatasetAway as away:
        if times_returned(work) < DATASET_TRIES:
            raise
        event = attempt.failed(ctx, DatasetUnreachable(away.uri, f"{away.reason} (for minutes, tried again and again)"))
    except JobStopped as stop:
        event = attempt.stopped(ctx, stop)
    except LeaseLost:
        return None
    # Stored, not published: the relay tells the world what is in the database, so that nobody hears
    # of a result that can't be read.
    return event if await outcomes.settle(work.lease, event) else None


async def handle(ctx: JobContext, handlers: Handlers) -> Result:
    """Call the handler of the request's kind; the type checker proves that none is missing."""
    match ctx.job.request:
        case GenerateRequest() as request:
            return await handlers.generate(request, ctx)
        case FineTuneRequest() as request:
            return await handlers.finetune(request, ctx)
        case EvaluateRequest() as request:
            return await handlers.evaluate(request, ctx)
        case unknown:
            assert_never(unknown)
