"""Makers of the rows that the database tests need."""

import itertools
from datetime import UTC, datetime

from sqlalchemy import Connection

from runtime.database import admissions, jobs, outcomes
from runtime.database.admissions import Admission, Source
from runtime.database.jobs import QueuedJob
from runtime.database.leased import LeasedJob
from schemas.errors import InvalidRequest
from schemas.requests import FineTuneRequest, GenerateRequest, Request
from schemas.results import (
    Choice,
    ErrorInfo,
    FineTuneResult,
    GenerateResult,
    Lineage,
    Result,
    ResultEvent,
    Terminal,
    Usage,
)
from schemas.topics import Kind

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
_offsets = itertools.count()


def generate(prompt: str = "1 May 2026 -> ", **fields: int) -> GenerateRequest:
    """A request as a client sends it."""
    return GenerateRequest(model="example-base", prompt=prompt, max_tokens=fields.get("max_tokens", 16))


def admission(job_id: str, request: Request | None = None, *, tenant: str = "default", offset: int = -1) -> Admission:
    """A valid request, read at an offset of its own unless one is given."""
    request = request or generate()
    return Admission(
        tenant=tenant,
        id=job_id,
        kind=Kind.FINETUNE if isinstance(request, FineTuneRequest) else Kind.GENERATE,
        request=request,
        request_sha256=admissions.request_digest(request)[1],
        traceparent=TRACE,
        source=Source("headrace.requests.generate.v1", 0, next(_offsets) if offset < 0 else offset),
        submitted_at=NOW,
        queued_at=NOW,
    )


def rejection(job_id: str) -> Admission:
    """A request that intake has refused, with the failed result that its sender gets."""
    error = ErrorInfo(InvalidRequest.code, "Expected `int`, got `str` - at `$.n` (got 'x')")
    return Admission(
        tenant="default",
        id=job_id,
        kind=Kind.GENERATE,
        request=None,
        request_sha256="0" * 64,
        traceparent=TRACE,
        source=Source("headrace.requests.generate.v1", 1, next(_offsets)),
        submitted_at=NOW,
        queued_at=NOW,
        rejection=terminal(job_id, status=Terminal.FAILED, error=error),
    )


def queued(row: Admission) -> QueuedJob:
    """The row as the scheduler knows it."""
    return QueuedJob(row.tenant, row.id, row.kind, 1, "example-base", row.queued_at, row.traceparent)


def leased(
    connection: Connection, *rows: Admission, worker: str = "worker-1", lease_s: float = 30.0
) -> list[LeasedJob]:
    """The rows, admitted and given to a worker, in their order."""
    admissions.admit(connection, rows)
    taken = {item.job.id: item for item in jobs.lease(connection, [(queued(row), worker) for row in rows], lease_s)}
    return [taken[row.id] for row in rows]


def terminal(
    job_id: str,
    *,
    tenant: str = "default",
    status: Terminal = Terminal.SUCCEEDED,
    result: Result | None = None,
    error: ErrorInfo | None = None,
) -> ResultEvent:
    """The terminal event of a job."""
    return ResultEvent(
        job_id=job_id,
        tenant=tenant,
        kind=Kind.FINETUNE if isinstance(result, FineTuneResult) else Kind.GENERATE,
        status=status,
        attempt=1,
        finished_at=NOW,
        result=result,
        error=error,
        usage=Usage(prompt_tokens=14, completion_tokens=10),
        lineage=Lineage(request="0" * 64, code="test", dataset_sha256="1" * 64),
    )


def settlement(item: LeasedJob, result: Result | None = None) -> outcomes.Settlement:
    """The success of a leased job."""
    answer = result or GenerateResult(choices=(Choice(0, 0, "2026-05-01", 10, "stop"),))
    return outcomes.Settlement(item.lease, terminal(item.job.id, tenant=item.job.tenant, result=answer))


def tuned(model: str = "ft:example-base:dates:01234567") -> FineTuneResult:
    """What a fine-tune comes to."""
    return FineTuneResult(
        model=model,
        base="example-base",
        method="lora",
        artifact_uri="file:///store/abc",
        artifact_sha256="a" * 64,
        size_bytes=1_000,
        steps=10,
        examples=100,
        train_loss=0.1,
        train_s=1.5,
    )
