"""The terminal events that an attempt can end in, with what it used, how long it took and what it was made from."""

import asyncio
from datetime import UTC, datetime
from typing import Final

from runtime.settings import CODE_VERSION
from schemas.codec import encode
from schemas.errors import JobError, JobExpired, JobStopped, Unsupported
from schemas.events import WorkEvent
from schemas.limits import DERIVED_TOPIC_BYTES
from schemas.results import ErrorInfo, Lineage, Result, ResultEvent, Terminal, Timings, Usage
from workers.context import JobContext

#: What a result event may weigh: what the topic takes, less room for headers and the record's frame.
RESULT_BYTES: Final = DERIVED_TOPIC_BYTES - 65_536


class Attempt:
    """One attempt at a job, from its making."""

    def __init__(self, work: WorkEvent) -> None:
        self._work = work
        self._begun_at = datetime.now(UTC)
        self._begun_s = asyncio.get_running_loop().time()

    def succeeded(self, ctx: JobContext, result: Result) -> ResultEvent:
        """It came to a result.

        Raises:
            Unsupported: the result is larger than an event may be.
        """
        event = self._event(ctx, Terminal.SUCCEEDED, result=result)
        size_bytes = len(encode(event))
        if size_bytes > RESULT_BYTES:
            raise Unsupported(
                f"The result has {size_bytes:,} bytes; the limit is {RESULT_BYTES:,}. "
                "Lower max_tokens or n, or split the request."
            )
        return event

    def failed(self, ctx: JobContext, error: JobError) -> ResultEvent:
        """It met an error of its own making."""
        return self._event(ctx, Terminal.FAILED, error=ErrorInfo(error.code, str(error), error.retryable))

    def stopped(self, ctx: JobContext, stop: JobStopped) -> ResultEvent:
        """It was cancelled, or its deadline passed; what its handler has kept is its result."""
        status = Terminal.EXPIRED if isinstance(stop, JobExpired) else Terminal.CANCELLED
        event = self._event(ctx, status, ctx.partial, ErrorInfo(stop.code, str(stop)))
        size_bytes = len(encode(event)) if ctx.partial else 0
        if size_bytes <= RESULT_BYTES:
            return event
        dropped = f"{stop} Nothing is kept: the result would have {size_bytes:,} bytes; the limit is {RESULT_BYTES:,}."
        return self._event(ctx, status, error=ErrorInfo(stop.code, dropped))

    def _event(
        self, ctx: JobContext, status: Terminal, result: Result | None = None, error: ErrorInfo | None = None
    ) -> ResultEvent:
        job, meter = self._work.job, ctx.meter
        return ResultEvent(
            job_id=job.id,
            tenant=job.tenant,
            kind=job.kind,
            status=status,
            attempt=job.attempt,
            finished_at=datetime.now(UTC),
            result=result,
            error=error,
            usage=Usage(
                prompt_tokens=meter.prompt_tokens,
                completion_tokens=meter.completion_tokens,
                train_tokens=meter.train_tokens,
                gpu_s=round(meter.device_s, 6),
            ),
            timings=self._timings(meter.load_s),
            lineage=Lineage(
                request=job.request_sha256,
                code=CODE_VERSION,
                dataset_sha256=meter.dataset_sha256,
                base=meter.base,
                adapter=meter.adapter,
            ),
        )

    def _timings(self, load_s: float) -> Timings:
        queued = self._work.scheduled_at - self._work.job.queued_at
        dispatched = self._begun_at - self._work.scheduled_at
        # Three machines' clocks meet here, and a difference of theirs must not become a negative time.
        return Timings(
            queued_s=round(max(0.0, queued.total_seconds()), 6),
            dispatched_s=round(max(0.0, dispatched.total_seconds()), 6),
            load_s=round(load_s, 6),
            run_s=round(max(0.0, asyncio.get_running_loop().time() - self._begun_s - load_s), 6),
        )
