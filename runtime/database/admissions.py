"""Requests on their way into the table of jobs, in batches; every statement may be repeated."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Final

from sqlalchemy import Connection, text

from schemas.codec import digest, encode
from schemas.events import State
from schemas.requests import GenerateRequest, Priority, Request
from schemas.results import ResultEvent, Terminal
from schemas.topics import Kind

RANK: Final = {Priority.HIGH: 0, Priority.NORMAL: 1, Priority.BATCH: 2}

#: With what their client wanted of them before they came.
INSERT_JOBS: Final = text("""
    INSERT INTO jobs (tenant, id, kind, state, priority, model, request, request_sha256, traceparent,
                      source_topic, source_partition, source_offset, deadline, submitted_at, queued_at,
                      available_at, finished_at, error_code, cost, control)
    SELECT item.tenant, id, kind, state, priority, model, request::json, sha256, traceparent,
           topic, partition, "offset", deadline, submitted_at,
           -- By one clock alone: an admitting process whose clock is ahead would hide the job for as long.
           least(queued_at, now()), now(),
           CASE WHEN state <> 'queued' THEN queued_at END, error_code, cost, wishes.control
    FROM unnest(CAST(:tenants AS text[]), CAST(:ids AS text[]), CAST(:kinds AS text[]), CAST(:states AS text[]),
                CAST(:priorities AS smallint[]), CAST(:models AS text[]), CAST(:requests AS text[]),
                CAST(:digests AS text[]), CAST(:traceparents AS text[]), CAST(:topics AS text[]),
                CAST(:partitions AS int[]), CAST(:offsets AS bigint[]), CAST(:deadlines AS timestamptz[]),
                CAST(:submitted AS timestamptz[]), CAST(:queued AS timestamptz[]), CAST(:errors AS text[]),
                CAST(:costs AS bigint[]))
         WITH ORDINALITY
         AS item(tenant, id, kind, state, priority, model, request, sha256, traceparent, topic, partition, "offset",
                deadline, submitted_at, queued_at, error_code, cost, number)
    LEFT JOIN wishes ON wishes.tenant = item.tenant AND wishes.job_id = item.id
    -- Of two requests with one id the first is admitted, and a join keeps no order.
    ORDER BY number
    ON CONFLICT (tenant, id) DO NOTHING
    RETURNING tenant, id
""")

SELECT_DIGESTS: Final = text("""
    SELECT jobs.tenant, jobs.id, jobs.state, jobs.request_sha256, jobs.source_topic, jobs.source_partition,
           jobs.source_offset
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


@dataclass(frozen=True)
class Source:
    """Where a request was read."""

    topic: str
    partition: int
    offset: int


@dataclass(frozen=True)
class Admission:
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
    """Insert what is new; the answers are in the order of ``admissions``.

    A request that will not run, and whose id is new, gets its row, its result and its outbox row. A repeat changes
    nothing, so a batch may be admitted again after a crash.
    """
    if not admissions:
        return []
    inserted = {(row.tenant, row.id) for row in connection.execute(INSERT_JOBS, _columns(admissions))}
    if len(inserted) == len(admissions):
        # As nearly always: no id was here before, nor came twice.
        _reject(connection, admissions)
        return [Admitted.NEW] * len(admissions)
    rows = connection.execute(
        SELECT_DIGESTS, {"tenants": [row.tenant for row in admissions], "ids": [row.id for row in admissions]}
    )
    known = {(row.tenant, row.id): row for row in rows}
    fates = []
    for admission in admissions:
        key = (admission.tenant, admission.id)
        row = known[key]
        if Source(row.source_topic, row.source_partition, row.source_offset) == admission.source:
            fates.append(Admitted.NEW if key in inserted else reread(admission, State(row.state)))
        else:
            fates.append(Admitted.REPEATED if row.request_sha256 == admission.request_sha256 else Admitted.CONFLICT)
    _reject(connection, [row for row, fate in zip(admissions, fates, strict=True) if fate is Admitted.NEW])
    return fates


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
