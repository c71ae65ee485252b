"""Where a job is, as Postgres or the status topic tells it."""

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from schemas.events import State, StatusEvent
from schemas.topics import Kind

if TYPE_CHECKING:
    from runtime.database.queries import JobRow


@dataclass(frozen=True, kw_only=True)
class JobStatus:
    """A job's state. The status topic does not have the fields whose default is None."""

    job_id: str
    tenant: str
    kind: Kind
    state: State
    attempt: int
    #: When the state was reached, as far as it is known.
    at: datetime
    worker_id: str | None
    #: Why it ended so: an error's code, or the reason given with the state.
    reason: str | None
    model: str | None = None
    submitted_at: datetime | None = None
    finished_at: datetime | None = None

    @classmethod
    def of_event(cls, event: StatusEvent) -> "JobStatus":
        """The state that the topic tells."""
        return cls(
            job_id=event.job_id,
            tenant=event.tenant,
            kind=event.kind,
            state=event.state,
            attempt=event.attempt,
            at=event.at,
            worker_id=event.worker_id,
            reason=event.reason,
        )

    @classmethod
    def of_row(cls, row: "JobRow") -> "JobStatus":
        """The state that Postgres tells."""
        return cls(
            job_id=row.id,
            tenant=row.tenant,
            kind=row.kind,
            state=row.state,
            attempt=row.attempt,
            at=row.finished_at or row.scheduled_at or row.queued_at,
            worker_id=row.worker_id,
            reason=row.error_code,
            model=row.model,
            submitted_at=row.submitted_at,
            finished_at=row.finished_at,
        )
