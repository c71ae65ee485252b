"""The life of a job's row, from admission to its lease; every statement may be repeated."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Final

from sqlalchemy import Connection, text

from schemas.codec import decode, digest, encode
from schemas.events import Lease, State
from schemas.requests import Job, Priority, Request
from schemas.results import ResultEvent, Terminal
from schemas.topics import Kind

RANK: Final = {Priority.HIGH: 0, Priority.NORMAL: 1, Priority.BATCH: 2}

INSERT_JOBS: Final = text("""
    INSERT INTO jobs (tenant, id, kind, state, priority, model, request, request_sha256, traceparent,
                      source_topic, source_partition, source_offset, deadline, submitted_at, queued_at,
                      available_at, finished_at, error_code)
    SELECT tenant, id, kind, state, priority, model, request::json, sha256, traceparent,
           topic, partition, "offset", deadline, submitted_at, queued_at, queued_at,
           CASE WHEN state <> 'queued' THEN queued_at END, error_code
    FROM unnest(CAST(:tenants AS text[]), CAST(:ids AS text[]), CAST(:kinds AS text[]), CAST(:states AS text[]),
                CAST(:priorities AS smallint[]), CAST(:models AS text[]), CAST(:requests AS text[]),
                CAST(:digests AS text[]), CAST(:traceparents AS text[]), CAST(:topics AS text[]),
                CAST(:partitions AS int[]), CAST(:offsets AS bigint[]), CAST(:deadlines AS timestamptz[]),
                CAST(:submitted AS timestamptz[]), CAST(:queued AS timestamptz[]), CAST(:errors AS text[]))
         AS item(tenant, id, kind, state, priority, model, request, sha256, traceparent, topic, partition, "offset",
                deadline, submitted_at, queued_at, error_code)
    ON CONFLICT (tenant, id) DO NOTHING
    RETURNING tenant, id
""")

SELECT_DIGESTS: Final = text("""
    SELECT jobs.tenant, jobs.id, jobs.request_sha256, jobs.source_topic, jobs.source_partition, jobs.source_offset
    FROM unnest(CAST(:tenants AS text[]), CAST(:ids AS text[])) AS item(tenant, id)
    JOIN jobs USING (tenant, id)
""")

INSERT_REJECTIONS: Final = text("""
    WITH item AS (
        SELECT * FROM unnest(CAST(:tenants AS text[]), CAST(:ids AS text[]), CAST(:traceparents AS text[]),
                             CAST(:statuses AS text[]), CAST(:events AS text[]), CAST(:times AS timestamptz[]))
                 AS item(tenant, id, traceparent, status, event, at)
    ), result AS (
        INSERT INTO results (tenant, job_id, status, attempt, event, finished_at)
        SELECT tenant, id, status, 1, event::json, at FROM item
        ON CONFLICT DO NOTHING
    )
    INSERT INTO outbox (tenant, job_id, traceparent, event, created_at)
    SELECT tenant, id, traceparent, event::json, now() FROM item
    ON CONFLICT DO NOTHING
""")

LEASE_JOBS: Final = text("""
    UPDATE jobs
    SET state = 'scheduled', epoch = epoch + 1, worker_id = item.worker_id, scheduled_at = now(),
        lease_expires_at = now() + make_interval(secs => :lease_s)
    FROM unnest(CAST(:tenants AS text[]), CAST(:ids AS text[]), CAST(:workers AS text[]))
         AS item(tenant, id, worker_id)
    WHERE jobs.tenant = item.tenant AND jobs.id = item.id AND jobs.state = 'queued'
    RETURNING jobs.tenant, jobs.id, jobs.epoch, jobs.worker_id, jobs.attempt, jobs.request::text AS request,
              jobs.request_sha256, jobs.traceparent, jobs.submitted_at, jobs.queued_at, jobs.scheduled_at
""")

SELECT_QUEUED: Final = text("""
    SELECT tenant, id, kind, priority, model, queued_at, traceparent, attempt
    FROM jobs
    WHERE state = 'queued' AND kind = :kind AND available_at <= now()
    ORDER BY priority, queued_at
    LIMIT :most
""")

RENEW_LEASES: Final = text("""
    UPDATE jobs
    SET lease_expires_at = now() + make_interval(secs => :lease_s), state = 'running'
    FROM unnest(CAST(:tenants AS text[]), CAST(:ids AS text[]), CAST(:epochs AS bigint[])) AS item(tenant, id, epoch)
    WHERE jobs.tenant = item.tenant AND jobs.id = item.id AND jobs.epoch = item.epoch
      AND jobs.state IN ('scheduled', 'running')
    RETURNING jobs.tenant, jobs.id, jobs.epoch
""")


@dataclass(frozen=True)
class Source:
    """Where a request was read."""

    topic: str
    partition: int
    offset: int


@dataclass(frozen=True)
class Admission:
    """A request on its way into the table; ``rejection`` is the terminal event of one that will not run."""

    tenant: str
    id: str
    kind: Kind
    request: Request | None
    request_sha256: str
    traceparent: str
    source: Source
    submitted_at: datetime
    queued_at: datetime
    rejection: ResultEvent | None = None

    @property
    def state(self) -> State:
        """The state that the job begins with, and ends in if it will not run."""
        if self.rejection is None:
            return State.QUEUED
        return State.EXPIRED if self.rejection.status is Terminal.EXPIRED else State.REJECTED


class Admitted(Enum):
    """What became of an admission."""

    NEW = "new"
    #: The same request was here before: nothing to do.
    REPEATED = "repeated"
    #: The same record was read again after a crash: what follows an admission may not have happened.
    REREAD = "reread"
    #: The id belongs to another request, which stays as it is.
    CONFLICT = "conflict"


@dataclass(frozen=True)
class QueuedJob:
    """What the scheduler needs to know of a job; its request stays in the database."""

    tenant: str
    id: str
    kind: Kind
    priority: int
    model: str
    queued_at: datetime
    traceparent: str
    attempt: int = 1


@dataclass(frozen=True)
class LeasedJob:
    """A job with the lease that was taken for a worker."""

    job: Job
    lease: Lease
    scheduled_at: datetime


def admit(connection: Connection, admissions: Sequence[Admission]) -> list[Admitted]:
    """Insert what is new, in one statement; the answers are in the order of ``admissions``.

    A request that will not run, and whose id is new, gets its row, its result and its outbox row. A repeat changes
    nothing, so a batch may be admitted again after a crash.
    """
    if not admissions:
        return []
    inserted = {(row.tenant, row.id) for row in connection.execute(INSERT_JOBS, _columns(admissions))}
    rows = connection.execute(
        SELECT_DIGESTS, {"tenants": [row.tenant for row in admissions], "ids": [row.id for row in admissions]}
    )
    known = {(row.tenant, row.id): row for row in rows}
    fates = []
    for admission in admissions:
        key = (admission.tenant, admission.id)
        row = known[key]
        if Source(row.source_topic, row.source_partition, row.source_offset) == admission.source:
            fates.append(Admitted.NEW if key in inserted else Admitted.REREAD)
        else:
            fates.append(Admitted.REPEATED if row.request_sha256 == admission.request_sha256 else Admitted.CONFLICT)
    _reject(connection, [row for row, fate in zip(admissions, fates, strict=True) if fate is Admitted.NEW])
    return fates


def lease(connection: Connection, assignments: Sequence[tuple[QueuedJob, str]], lease_s: float) -> list[LeasedJob]:
    """Give queued jobs to workers (the second of each pair is a worker's id) under a new epoch.

    Jobs that are no longer queued are left out of the answer, which has no order.
    """
    if not assignments:
        return []
    rows = connection.execute(
        LEASE_JOBS,
        {
            "tenants": [job.tenant for job, _ in assignments],
            "ids": [job.id for job, _ in assignments],
            "workers": [worker_id for _, worker_id in assignments],
            "lease_s": lease_s,
        },
    )
    return [
        LeasedJob(
            job=Job(
                id=row.id,
                tenant=row.tenant,
                request=decode(Request, row.request.encode()),
                attempt=row.attempt,
                submitted_at=row.submitted_at,
                queued_at=row.queued_at,
                traceparent=row.traceparent,
                request_sha256=row.request_sha256,
            ),
            lease=Lease(row.tenant, row.id, row.epoch, row.worker_id),
            scheduled_at=row.scheduled_at,
        )
        for row in rows
    ]


def queued(connection: Connection, kind: Kind, most: int) -> list[QueuedJob]:
    """The first ``most`` jobs of a kind that wait and may start now, by priority, then by age."""
    rows = connection.execute(SELECT_QUEUED, {"kind": kind.value, "most": most})
    return [
        QueuedJob(
            row.tenant,
            row.id,
            Kind(row.kind),
            row.priority,
            row.model,
            row.queued_at,
            row.traceparent,
            row.attempt,
        )
        for row in rows
    ]


def renew(connection: Connection, leases: Sequence[Lease], lease_s: float) -> set[Lease]:
    """Extend the leases of jobs that run; the ones that are still held. The rest belong to somebody else."""
    if not leases:
        return set()
    rows = connection.execute(RENEW_LEASES, {**lease_columns(leases), "lease_s": lease_s})
    held = {(row.tenant, row.id, row.epoch) for row in rows}
    return {lease for lease in leases if (lease.tenant, lease.job_id, lease.epoch) in held}


def lease_columns(leases: Sequence[Lease]) -> dict[str, list[str] | list[int]]:
    """The leases as the arrays that ``unnest`` takes."""
    return {
        "tenants": [lease.tenant for lease in leases],
        "ids": [lease.job_id for lease in leases],
        "epochs": [lease.epoch for lease in leases],
    }


def request_digest(request: Request) -> tuple[bytes, str]:
    """A request in its one canonical form, and its digest: white space and defaults make no conflict."""
    canonical = encode(request)
    return canonical, digest(canonical)


def _reject(connection: Connection, admissions: Sequence[Admission]) -> None:
    refused = [(row, row.rejection) for row in admissions if row.rejection]
    if refused:
        connection.execute(
            INSERT_REJECTIONS,
            {
                "tenants": [row.tenant for row, _ in refused],
                "ids": [row.id for row, _ in refused],
                "traceparents": [row.traceparent for row, _ in refused],
                "statuses": [event.status.value for _, event in refused],
                "events": [encode(event).decode() for _, event in refused],
                "times": [event.finished_at for _, event in refused],
            },
        )


def _columns(admissions: Sequence[Admission]) -> dict[str, list[object]]:
    requests = [row.request for row in admissions]
    return {
        "tenants": [row.tenant for row in admissions],
        "ids": [row.id for row in admissions],
        "kinds": [row.kind.value for row in admissions],
        "states": [row.state.value for row in admissions],
        "priorities": [RANK[request.priority] if request else RANK[Priority.NORMAL] for request in requests],
        "models": [request.model if request else "" for request in requests],
        "requests": [encode(request).decode() if request else None for request in requests],
        "digests": [row.request_sha256 for row in admissions],
        "traceparents": [row.traceparent for row in admissions],
        "topics": [row.source.topic for row in admissions],
        "partitions": [row.source.partition for row in admissions],
        "offsets": [row.source.offset for row in admissions],
        "deadlines": [request.deadline if request else None for request in requests],
        "submitted": [row.submitted_at for row in admissions],
        "queued": [row.queued_at for row in admissions],
        "errors": [row.rejection.error.code if row.rejection and row.rejection.error else None for row in admissions],
    }
