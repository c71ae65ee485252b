"""What clients and workers ask about jobs, results and tuned models."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, Row, text

from runtime.database.prepared import prepared
from schemas.codec import decode
from schemas.events import State
from schemas.results import ResultEvent
from schemas.topics import Kind

FIND_JOB: Final = prepared("""
    SELECT tenant, id, kind, state, model, attempt, worker_id, submitted_at, queued_at, scheduled_at, finished_at,
           error_code
    FROM jobs WHERE tenant = :tenant AND id = :id
""")

RECENT_JOBS: Final = text("""
    SELECT tenant, id, kind, state, model, attempt, worker_id, submitted_at, queued_at, scheduled_at, finished_at,
           error_code
    FROM jobs WHERE tenant = :tenant AND submitted_at IS NOT NULL
    ORDER BY submitted_at DESC
    LIMIT :most
""")

FIND_RESULT: Final = prepared("SELECT event::text FROM results WHERE tenant = :tenant AND job_id = :id")

FIND_ADAPTER: Final = text("""
    SELECT id, base, method, artifact_uri, artifact_sha256, size_bytes
    FROM adapters WHERE tenant = :tenant AND id = :id
""")


@dataclass(frozen=True)
class JobRow:
    """A job as Postgres has it."""

    tenant: str
    id: str
    kind: Kind
    state: State
    model: str
    attempt: int
    worker_id: str | None
    submitted_at: datetime
    queued_at: datetime
    scheduled_at: datetime | None
    finished_at: datetime | None
    error_code: str | None


@dataclass(frozen=True)
class TunedModel:
    """A tuned model of a tenant; its files are the artifact. ``method`` is ``lora`` or ``full``."""

    id: str
    base: str
    method: str
    artifact_uri: str
    artifact_sha256: str
    size_bytes: int


def find_job(connection: Connection, tenant: str, job_id: str) -> JobRow | None:
    """The job, if this tenant has it."""
    row = connection.execute(FIND_JOB, {"tenant": tenant, "id": job_id}).one_or_none()
    return None if row is None else _job(row)


def recent_jobs(connection: Connection, tenant: str, most: int) -> list[JobRow]:
    """The tenant's last jobs, the newest first."""
    return [_job(row) for row in connection.execute(RECENT_JOBS, {"tenant": tenant, "most": most})]


def find_result(connection: Connection, tenant: str, job_id: str) -> ResultEvent | None:
    """The job's terminal event, if it has ended."""
    event: str | None = connection.execute(FIND_RESULT, {"tenant": tenant, "id": job_id}).scalar()
    return None if event is None else decode(ResultEvent, event.encode())


def find_tuned_model(connection: Connection, tenant: str, model: str) -> TunedModel | None:
    """The tuned model of this id, if this tenant has it."""
    row = connection.execute(FIND_ADAPTER, {"tenant": tenant, "id": model}).one_or_none()
    return None if row is None else TunedModel(*row)


def _job(row: Row[tuple[object, ...]]) -> JobRow:
    return JobRow(**{**row._mapping, "kind": Kind(row.kind), "state": State(row.state)})
