"""Requests on their way into the table of jobs, in batches; every statement may be repeated."""

from collections.abc import Iterator, Mapping, Sequence, Set
from datetime import datetime
from enum import Enum
from typing import Any, Final

from msgspec import Struct
from sqlalchemy import Connection, text

from runtime.database.leased import LeasedJob
from runtime.database.prepared import prepared
from schemas.codec import digest, encode
from schemas.events import Lease, State
from schemas.requests import GenerateRequest, Job, Priority, Request
from schemas.results import ResultEvent, Terminal
from schemas.topics import Kind

#: Tenant and id of a job.
Key = tuple[str, str]
RANK: Final = {Priority.HIGH: 0, Priority.NORMAL: 1, Priority.BATCH: 2}

#: With what their client wanted of them before they came. A job that has a worker is leased to it, as by
#: ``jobs.LEASE_JOBS``, unless its client wants it no longer or it came too late.
INSERT_JOBS: Final = prepared("""
    INSERT INTO jobs (tenant, id, kind, state, priority, model, request, request_sha256, traceparent,
                      source_topic, source_partition, source_offset, deadline, submitted_at, queued_at,
                      available_at, finished_at, error_code, cost, control,
                      epoch, worker_id, scheduled_at, lease_expires_at)
    SELECT item.tenant, id, kind, CASE WHEN leased THEN 'scheduled' ELSE state END, priority, model, request::json,
           sha256, traceparent, topic, partition, "offset", deadline, submitted_at,
           -- By one clock alone: an admitting process whose clock is ahead would hide the job for as long.
           least(queued_at, now()), now(),
           CASE WHEN state <> 'queued' THEN queued_at END, error_code, cost, wishes.control,
           CASE WHEN leased THEN 1 ELSE 0 END, CASE WHEN leased THEN worker_id END, CASE WHEN leased THEN now() END,
           CASE WHEN leased THEN now() + make_interval(secs => :lease_s) END
    FROM unnest(CAST(:tenants AS text[]), CAST(:ids AS text[]), CAST(:kinds AS text[]), CAST(:states AS text[]),
                CAST(:priorities AS smallint[]), CAST(:models AS text[]), CAST(:requests AS text[]),
                CAST(:digests AS text[]), CAST(:traceparents AS text[]), CAST(:topics AS text[]),
                CAST(:partitions AS int[]), CAST(:offsets AS bigint[]), CAST(:deadlines AS timestamptz[]),
                CAST(:submitted AS timestamptz[]), CAST(:queued AS timestamptz[]), CAST(:errors AS text[]),
                CAST(:costs AS bigint[]), CAST(:workers AS text[]))
         WITH ORDINALITY
         AS item(tenant, id, kind, state, priority, model, request, sha256, traceparent, topic, partition, "offset",
                deadline, submitted_at, queued_at, error_code, cost, worker_id, number)
    LEFT JOIN wishes
        ON wishes.tenant = item.tenant AND wishes.job_id = item.id AND wishes.control->>'action' <> 'resume'
    CROSS JOIN LATERAL (
        SELECT worker_id IS NOT NULL AND wishes.control IS NULL AND (deadline IS NULL OR deadline > now())
    ) AS lease(leased)
    -- Of two requests with one id the first is admitted, and a join keeps no order.
    ORDER BY number
    ON CONFLICT (tenant, id) DO NOTHING
    RETURNING tenant, id, state, epoch, worker_id, queued_at, scheduled_at
""")

SELECT_JOBS: Final = text("""
    SELECT jobs.tenant, jobs.id, jobs.state, jobs.request_sha256, jobs.source_topic, jobs.source_partition,
           jobs.source_offset, jobs.epoch, jobs.worker_id, jobs.queued_at, jobs.scheduled_at
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


class Source(Struct, frozen=True, gc=False):
    """Where a request was read."""

    topic: str
    partition: int
    offset: int


# A struct of msgspec's is made in a tenth of the time that a frozen dataclass takes.
class Admission(Struct, frozen=True):
    """A request on its way into the table; ``rejection`` is the terminal event of one that will not run.

    ``cost`` is what it counts for when tenants take turns: about its tokens.
    """

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
    cost: int = 1

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
    #: The same record was read again after a crash: the job waits, or is further by now.
    REREAD = "reread"
    #: As before, and it was refused: whoever has to hear of that may not have.
    REFUSED = "refused"
    #: The id belongs to another request, which stays as it is.
    CONFLICT = "conflict"


def admit(connection: Connection, admissions: Sequence[Admission]) -> list[Admitted]:
    """As ``admit_and_lease``, for jobs that all have to wait."""
    return admit_and_lease(connection, admissions, {}, 0.0)[0]


def admit_and_lease(
    connection: Connection, admissions: Sequence[Admission], workers: Mapping[Key, str], lease_s: float
) -> tuple[list[Admitted], list[LeasedJob]]:
    """Insert what is new, and lease what has a worker; the answers are in the order of ``admissions``.

    ``workers`` has the ids of some jobs' workers, by tenant and job id. The leases that are left out of the answer
    were not taken. A request that will not run, and whose id is new, gets its row, its result and its outbox row. A
    repeat changes nothing, so a batch may be admitted again after a crash.
    """
    if not admissions:
        return [], []
    columns = {**_columns(admissions), "workers": _given(admissions, workers), "lease_s": lease_s}
    rows = {(row.tenant, row.id): row for row in connection.execute(INSERT_JOBS, columns)}
    fates = [Admitted.NEW] * len(admissions)
    if len(rows) < len(admissions):
        # Seldom: an id was here before, or came twice.
        inserted = frozenset(rows)
        rows = known(connection, admissions)
        fates = [_fate(row, rows[row.tenant, row.id], inserted) for row in admissions]
    _reject(connection, [row for row, fate in zip(admissions, fates, strict=True) if fate is Admitted.NEW])
    own = [row for row, fate in zip(admissions, fates, strict=True) if is_ours(row, fate, rows[row.tenant, row.id])]
    return fates, list(_leases(own, rows, workers))


def is_ours(admission: Admission, fate: Admitted, row: Any) -> bool:
    """Whether the row was written for this very admission: now, or by a try of which the answer was lost.

    The same record that was read before a crash was judged at another time. Its lease may have been told, and used.
    """
    return fate is Admitted.NEW or (fate is Admitted.REREAD and row.queued_at == admission.queued_at)


def known(connection: Connection, admissions: Sequence[Admission]) -> dict[Key, Any]:
    """What the table has under the ids of some admissions, by tenant and id."""
    keys = {"tenants": [row.tenant for row in admissions], "ids": [row.id for row in admissions]}
    return {(row.tenant, row.id): row for row in connection.execute(SELECT_JOBS, keys)}


def compared(admission: Admission, row: Any) -> Admitted:
    """What became of an admission whose id has a row: one of ``known``."""
    if Source(row.source_topic, row.source_partition, row.source_offset) == admission.source:
        return reread(admission, State(row.state))
    return Admitted.REPEATED if row.request_sha256 == admission.request_sha256 else Admitted.CONFLICT


def reread(admission: Admission, state: State) -> Admitted:
    """What became of an admission whose record was admitted before, by the state that its job has now."""
    refused = state is State.REJECTED or (state is State.EXPIRED and admission.state is state)
    return Admitted.REFUSED if refused else Admitted.REREAD


def request_digest(request: Request) -> tuple[bytes, str]:
    """A request in its one canonical form, and its digest: white space and defaults make no conflict."""
    canonical = encode(request)
    return canonical, digest(canonical)


def needed_model(request: Request) -> str:
    """The model that has to be in a worker's memory for the request: the adapter where it names one."""
    adapter = request.adapter if isinstance(request, GenerateRequest) else None
    return adapter or request.model


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


def _given(admissions: Sequence[Admission], workers: Mapping[Key, str]) -> list[str | None]:
    return [None if row.rejection else workers.get((row.tenant, row.id)) for row in admissions]


def _fate(admission: Admission, row: Any, inserted: Set[Key]) -> Admitted:
    fate = compared(admission, row)
    own = fate in (Admitted.REREAD, Admitted.REFUSED)
    return Admitted.NEW if own and (admission.tenant, admission.id) in inserted else fate


def _leases(
    admissions: Sequence[Admission], rows: Mapping[Key, Any], workers: Mapping[Key, str]
) -> Iterator[LeasedJob]:
    """The jobs that were leased to their workers."""
    for admission in admissions:
        key = (admission.tenant, admission.id)
        row, request = rows[key], admission.request
        if request and (row.state, row.epoch, row.worker_id) == (State.SCHEDULED, 1, workers.get(key)):
            job = Job(
                id=admission.id,
                tenant=admission.tenant,
                request=request,
                attempt=1,
                submitted_at=admission.submitted_at,
                queued_at=row.queued_at,
                traceparent=admission.traceparent,
                request_sha256=admission.request_sha256,
            )
            yield LeasedJob(job, Lease(*key, row.epoch, row.worker_id), row.scheduled_at)


def _columns(admissions: Sequence[Admission]) -> dict[str, list[object]]:
    requests = [row.request for row in admissions]
    return {
        "tenants": [row.tenant for row in admissions],
        "ids": [row.id for row in admissions],
        "kinds": [row.kind.value for row in admissions],
        "states": [row.state.value for row in admissions],
        "priorities": [RANK[request.priority] if request else RANK[Priority.NORMAL] for request in requests],
        "models": [needed_model(request) if request else "" for request in requests],
        "requests": [encode(request).decode() if request else None for request in requests],
        "digests": [row.request_sha256 for row in admissions],
        "traceparents": [row.traceparent for row in admissions],
        "topics": [row.source.topic for row in admissions],
        "partitions": [row.source.partition for row in admissions],
        "offsets": [row.source.offset for row in admissions],
        "deadlines": [request.deadline if request else None for request in requests],
        "submitted": [row.submitted_at for row in admissions],
        "queued": [row.queued_at for row in admissions],
        "costs": [row.cost for row in admissions],
        "errors": [row.rejection.error.code if row.rejection and row.rejection.error else None for row in admissions],
    }
