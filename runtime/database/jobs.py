"""The life of a job's row while it waits and while it is leased; every statement may be repeated.

Statements that find jobs by their ids look at the rest of the row in a ``CASE``, of which Postgres expects that it is
true for half of the rows, and for which it uses no index. By its statistics, of a time when nobody waited or ran, next
to no row is in such a state: so it would go through all of those that are, for each id.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, NamedTuple

import msgspec
from sqlalchemy import Connection, Row, text

from runtime.database.leased import LeasedJob
from runtime.database.prepared import prepared
from runtime.database.wishes import noted
from schemas.codec import decode
from schemas.events import ControlEvent, Lease, State
from schemas.requests import Job, Request
from schemas.topics import Kind

log = logging.getLogger(__name__)

#: Before the first job, by tenant and id.
FIRST: Final = ("", "")

_LEASED_COLUMNS: Final = """
    jobs.tenant, jobs.id, jobs.epoch, jobs.worker_id, jobs.attempt, jobs.request::text AS request,
    jobs.request_sha256, jobs.traceparent, jobs.submitted_at, jobs.queued_at, jobs.scheduled_at
"""

#: Not a job that its client wants no longer, nor one whose deadline has passed: ``control.sweep`` ends it. Nor one that
#: has lost another attempt since it was read: it waits out its backoff, and its last attempt wants a worker for itself.
LEASE_JOBS: Final = prepared(f"""
    UPDATE jobs
    SET state = 'scheduled', epoch = epoch + 1, worker_id = item.worker_id, scheduled_at = now(),
        lease_expires_at = now() + make_interval(secs => :lease_s)
    FROM unnest(CAST(:tenants AS text[]), CAST(:ids AS text[]), CAST(:workers AS text[]), CAST(:losses AS integer[]))
         AS item(tenant, id, worker_id, lost_attempts)
    WHERE jobs.tenant = item.tenant AND jobs.id = item.id
      AND CASE WHEN jobs.state = 'queued' AND jobs.control IS NULL AND (jobs.deadline IS NULL OR jobs.deadline > now())
                    AND jobs.available_at <= now() AND jobs.lost_attempts = item.lost_attempts
               THEN true END
    RETURNING {_LEASED_COLUMNS}
""")  # noqa: S608  a constant

SELECT_UNCONFIRMED: Final = text(f"""
    SELECT {_LEASED_COLUMNS}, workers.partition
    FROM jobs JOIN workers ON workers.worker_id = jobs.worker_id
    WHERE jobs.state = 'scheduled' AND jobs.lease_expires_at > now()
      AND jobs.scheduled_at < now() - make_interval(secs => :age_s)
      AND (jobs.tenant, jobs.id) > (:tenant, :id)
    ORDER BY jobs.tenant, jobs.id
    LIMIT :most
""")  # noqa: S608

RENEW_LEASES: Final = prepared("""
    UPDATE jobs
    SET lease_expires_at = now() + make_interval(secs => :lease_s), state = 'running'
    FROM unnest(CAST(:tenants AS text[]), CAST(:ids AS text[]), CAST(:epochs AS bigint[])) AS item(tenant, id, epoch)
    WHERE jobs.tenant = item.tenant AND jobs.id = item.id AND jobs.epoch = item.epoch
      AND CASE WHEN jobs.state IN ('scheduled', 'running') THEN true END
    RETURNING jobs.tenant, jobs.id, jobs.epoch, jobs.control::text AS control
""")

#: It costs no attempt: nobody was lost. One that was to be paused, but whose client has since asked for something
#: else, is queued; what was not carried out here is left to ``control.sweep``. It waits for ``delay_s``.
GIVE_BACK: Final = text("""
    UPDATE jobs
    SET state = CASE WHEN control->>'action' <> 'pause' THEN 'queued' ELSE :state END,
        control = CASE WHEN control->>'action' = 'cancel' OR :state = 'queued' THEN control END,
        worker_id = NULL, lease_expires_at = NULL, available_at = now() + make_interval(secs => :delay_s)
    FROM unnest(CAST(:tenants AS text[]), CAST(:ids AS text[]), CAST(:epochs AS bigint[])) AS item(tenant, id, epoch)
    WHERE jobs.tenant = item.tenant AND jobs.id = item.id AND jobs.epoch = item.epoch
      AND CASE WHEN jobs.state IN ('scheduled', 'running') THEN true END
    RETURNING jobs.tenant, jobs.id, jobs.epoch
""")


POSTPONE: Final = text("""
    UPDATE jobs
    SET state = 'queued', worker_id = NULL, lease_expires_at = NULL,
        available_at = now() + make_interval(secs => :delay_s)
    FROM unnest(CAST(:tenants AS text[]), CAST(:ids AS text[]), CAST(:epochs AS bigint[])) AS item(tenant, id, epoch)
    WHERE jobs.tenant = item.tenant AND jobs.id = item.id AND jobs.epoch = item.epoch
""")

#: As ``GIVE_BACK``, for workers that have gone and can't do it.
VACATE: Final = text("""
    UPDATE jobs
    SET state = 'queued', worker_id = NULL, lease_expires_at = NULL, available_at = now()
    WHERE jobs.worker_id = ANY(CAST(:workers AS text[])) AND jobs.state IN ('scheduled', 'running')
    RETURNING jobs.tenant, jobs.id
""")

#: How long a job waits whose request can't be read here.
UNREADABLE_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class QueuedJob:
    """What the scheduler needs to know of a job; its request stays in the database.

    ``model`` is what has to be loaded for it: the adapter where it names one. ``cost`` is about its tokens,
    ``lost_attempts`` how often in a row it lost its worker without getting further, ``waited_s`` the time since
    it was queued, when this was read.
    """

    tenant: str
    id: str
    kind: Kind
    priority: int
    model: str
    queued_at: datetime
    traceparent: str
    attempt: int = 1
    cost: int = 1
    lost_attempts: int = 0
    waited_s: float = field(default=0.0, compare=False)


def lease(connection: Connection, assignments: Sequence[tuple[QueuedJob, str]], lease_s: float) -> list[LeasedJob]:
    """Give queued jobs to workers (the second of each pair is a worker's id) under a new epoch.

    Jobs that are no longer queued are left out of the answer, which has no order. So are those whose request this
    release can't read: they wait a while, for a later one.
    """
    if not assignments:
        return []
    rows = connection.execute(
        LEASE_JOBS,
        {
            "tenants": [job.tenant for job, _ in assignments],
            "ids": [job.id for job, _ in assignments],
            "workers": [worker_id for _, worker_id in assignments],
            "losses": [job.lost_attempts for job, _ in assignments],
            "lease_s": lease_s,
        },
    ).all()
    leased = [item for row in rows if (item := _leased(row))]
    if len(leased) < len(rows):
        _postpone(connection, [row for row in rows if _leased(row) is None])
    return leased


class Unconfirmed(NamedTuple):
    """Leases with their workers' partitions, and the last job, by tenant and id, where there may be more after it."""

    leases: list[tuple[LeasedJob, int]]
    last: tuple[str, str] | None


def unconfirmed(connection: Connection, age_s: float, most: int, after: tuple[str, str] = FIRST) -> Unconfirmed:
    """Leases that were never renewed although they are ``age_s`` seconds old: ``most`` of them, of jobs ``after`` one.

    A worker that has its job renews it much sooner: it is in trouble, or was never told.
    """
    tenant, job_id = after
    rows = connection.execute(SELECT_UNCONFIRMED, {"age_s": age_s, "most": most, "tenant": tenant, "id": job_id}).all()
    told = [(item, row.partition) for row in rows if (item := _leased(row))]
    return Unconfirmed(told, (rows[-1].tenant, rows[-1].id) if len(rows) == most else None)


def _postpone(connection: Connection, rows: Sequence[Row[Any]]) -> None:
    for row in rows:
        log.warning(
            "Job %s/%s was admitted by a later release than this one, which can't read its request. It waits for a "
            "dispatcher of that release: upgrade, or cancel it.",
            row.tenant,
            row.id,
        )
    leases = [Lease(row.tenant, row.id, row.epoch, row.worker_id) for row in rows]
    connection.execute(POSTPONE, {**lease_columns(leases), "delay_s": UNREADABLE_S})


def _leased(row: Row[Any]) -> LeasedJob | None:
    try:
        request = decode(Request, row.request.encode())
    except msgspec.DecodeError:
        return None
    job = Job(
        id=row.id,
        tenant=row.tenant,
        request=request,
        attempt=row.attempt,
        submitted_at=row.submitted_at,
        queued_at=row.queued_at,
        traceparent=row.traceparent,
        request_sha256=row.request_sha256,
    )
    return LeasedJob(job, Lease(row.tenant, row.id, row.epoch, row.worker_id), row.scheduled_at)


def renew(connection: Connection, leases: Sequence[Lease], lease_s: float) -> dict[Lease, ControlEvent | None]:
    """Extend the leases of jobs that run: those that are still held, and what the client wants of each job.

    The rest belong to somebody else.
    """
    if not leases:
        return {}
    rows = connection.execute(RENEW_LEASES, {**lease_columns(leases), "lease_s": lease_s})
    held = {(row.tenant, row.id, row.epoch): row.control for row in rows}
    kept = {lease: (lease.tenant, lease.job_id, lease.epoch) for lease in leases}
    return {lease: noted(held[key]) for lease, key in kept.items() if key in held}


def give_back(connection: Connection, leases: Sequence[Lease], state: State, delay_s: float = 0.0) -> set[Lease]:
    """End leases whose jobs go on later; ``state`` is queued or paused. The ones that were still held.

    The attempt stays the same, and begins again after ``delay_s`` at the earliest. Its worker writes nothing under
    the lease any more.
    """
    if not leases:
        return set()
    rows = connection.execute(GIVE_BACK, {**lease_columns(leases), "state": state.value, "delay_s": delay_s})
    held = {(row.tenant, row.id, row.epoch) for row in rows}
    return {lease for lease in leases if (lease.tenant, lease.job_id, lease.epoch) in held}


def vacate(connection: Connection, worker_ids: Sequence[str]) -> list[tuple[str, str]]:
    """End the leases of workers that have said that they leave: tenant and id of each job, which is queued again.

    Nothing of theirs runs any more, so it costs no attempt. What their client wants of the jobs is left to
    ``control.sweep``.
    """
    rows = connection.execute(VACATE, {"workers": list(worker_ids)})
    return [(row.tenant, row.id) for row in rows]


def lease_columns(leases: Sequence[Lease]) -> dict[str, list[str] | list[int]]:
    """The leases as the arrays that ``unnest`` takes."""
    return {
        "tenants": [lease.tenant for lease in leases],
        "ids": [lease.job_id for lease in leases],
        "epochs": [lease.epoch for lease in leases],
    }
