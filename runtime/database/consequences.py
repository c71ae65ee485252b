"""What came of wishes and deadlines: terminal events, states, and what workers are to hear. Pure functions."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import assert_never

from runtime.database.admissions import Admission, Admitted
from runtime.database.wishes import (
    Decision,
    End,
    Move,
    Nothing,
    Remember,
    Resubmit,
    Standing,
    Tell,
    TellAgain,
    Wish,
    Withdraw,
    cancelled,
)
from runtime.settings import CODE_VERSION
from schemas.errors import JobExpired, JobStopped
from schemas.events import State, StatusEvent, StopEvent
from schemas.results import ErrorInfo, Lineage, ResultEvent, Terminal, Timings


@dataclass(frozen=True)
class Case:
    """A wish, the job that it found, and what was decided."""

    wish: Wish
    job: Standing | None
    decision: Decision

    @property
    def key(self) -> tuple[str, str]:
        """The tenant and the id that the wish names."""
        return self.wish.key


@dataclass(frozen=True)
class Consequence:
    """What came of a wish or of a deadline, for whoever has to be told."""

    #: What was wished, or ``deadline``.
    action: str
    tenant: str
    job_id: str
    #: What was decided, in a word; ``reason`` says why nothing was changed.
    fate: str
    reason: str = ""
    #: The job's new state, which the world is told with the trace that it belongs to.
    status: StatusEvent | None = None
    traceparent: str = ""
    #: What its worker is told on its partition; where the worker has none, its lease is about to run out.
    stop: StopEvent | None = None
    partition: int | None = None
    #: It waits for a worker no more.
    left_queue: bool = False


def consequence(case: Case, partitions: Mapping[str, int], now: datetime) -> Consequence:
    """What came of a wish; ``partitions`` are those of the workers, by their ids."""
    job, decision, wish = case.job, case.decision, case.wish.event
    tenant, job_id = case.key
    match decision:
        case End():
            assert job is not None
            return ended(wish.action, job, cancelled(wish), now)
        case Move(state) | Tell(state):
            assert job is not None
            told = isinstance(decision, Tell)
            return Consequence(
                wish.action,
                tenant,
                job_id,
                decision.fate,
                status=_status(job, state, wish.reason, now),
                traceparent=job.traceparent,
                stop=StopEvent(job.lease, wish) if told else None,
                partition=partitions.get(job.worker_id or "") if told else None,
                left_queue=state is State.PAUSED,
            )
        case TellAgain():
            assert job is not None
            stop, partition = StopEvent(job.lease, job.control or wish), partitions.get(job.worker_id or "")
            return Consequence(
                wish.action, tenant, job_id, decision.fate, traceparent=job.traceparent, stop=stop, partition=partition
            )
        case Nothing(reason):
            return Consequence(wish.action, tenant, job_id, decision.fate, reason)
        case Withdraw() | Remember() | Resubmit():
            return Consequence(wish.action, tenant, job_id, decision.fate)
        case unknown:
            assert_never(unknown)


def resubmission(case: Case, resubmitted: tuple[Admission, Admitted] | None) -> Consequence:
    """What came of a retry; None where its request could not be read."""
    action, (tenant, job_id) = case.wish.event.action, case.key
    if resubmitted is None:
        reason = "its request was written by a later release than this one: upgrade, then retry it"
        return Consequence(action, tenant, job_id, Nothing.fate, reason)
    admission, became = resubmitted
    match became:
        case Admitted.NEW:
            status = StatusEvent(
                job_id=admission.id,
                tenant=tenant,
                kind=admission.kind,
                state=State.QUEUED,
                attempt=1,
                at=admission.queued_at,
                reason=f"{job_id} is submitted again.",
            )
            return Consequence(
                action, tenant, admission.id, case.decision.fate, status=status, traceparent=admission.traceparent
            )
        case Admitted.REPEATED | Admitted.REREAD | Admitted.REFUSED:
            return Consequence(action, tenant, admission.id, TellAgain.fate)
        case Admitted.CONFLICT:
            reason = f"{admission.id} exists already, with a different body: choose another new_id"
            return Consequence(action, tenant, job_id, Nothing.fate, reason)
        case unknown:
            assert_never(unknown)


def ended(action: str, job: Standing, reason: JobStopped, now: datetime) -> Consequence:
    """A job that waited has ended."""
    state = State.EXPIRED if isinstance(reason, JobExpired) else State.CANCELLED
    return Consequence(
        action,
        job.tenant,
        job.id,
        state.value,
        status=_status(job, state, str(reason), now),
        traceparent=job.traceparent,
        left_queue=True,
    )


def terminal(job: Standing, reason: JobStopped, now: datetime) -> ResultEvent:
    """The terminal event of a job that waited."""
    return ResultEvent(
        job_id=job.id,
        tenant=job.tenant,
        kind=job.kind,
        status=Terminal.EXPIRED if isinstance(reason, JobExpired) else Terminal.CANCELLED,
        attempt=job.attempt,
        finished_at=now,
        error=ErrorInfo(reason.code, str(reason), reason.retryable),
        timings=Timings(queued_s=max(0.0, round((now - job.queued_at).total_seconds(), 6))),
        lineage=Lineage(request=job.request_sha256, code=CODE_VERSION),
    )


def _status(job: Standing, state: State, reason: str | None, now: datetime) -> StatusEvent:
    return StatusEvent(
        job_id=job.id, tenant=job.tenant, kind=job.kind, state=state, attempt=job.attempt, at=now, reason=reason
    )


def expiry(job: Standing) -> JobExpired:
    """Why a job that waited too long ends."""
    deadline = job.deadline.isoformat() if job.deadline else "?"
    return JobExpired(
        f"The deadline {deadline} passed while the job was {job.state}. Retry it, or submit it with a later one."
    )
