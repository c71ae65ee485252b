"""The end of a job: result, state, outbox, usage and tuned model in one statement, guarded by the lease."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from sqlalchemy import Connection, text

from runtime.database.jobs import lease_columns
from runtime.database.prepared import prepared
from schemas.codec import encode
from schemas.events import Lease
from schemas.results import FineTuneResult, ResultEvent
from schemas.topics import Kind

#: ``CASE``: see ``jobs``.
SETTLE_JOBS: Final = prepared("""
    WITH item AS (
        SELECT * FROM unnest(CAST(:tenants AS text[]), CAST(:ids AS text[]), CAST(:epochs AS bigint[]),
                             CAST(:statuses AS text[]), CAST(:events AS text[]), CAST(:times AS timestamptz[]),
                             CAST(:errors AS text[]), CAST(:prompt_tokens AS bigint[]),
                             CAST(:completion_tokens AS bigint[]), CAST(:train_tokens AS bigint[]),
                             CAST(:gpu_s AS double precision[]))
                 AS item(tenant, id, epoch, status, event, at, error_code, prompt_tokens, completion_tokens,
                         train_tokens, gpu_s)
    ), settled AS (
        UPDATE jobs
        SET state = item.status, finished_at = item.at, error_code = item.error_code, lease_expires_at = NULL
        FROM item
        WHERE jobs.tenant = item.tenant AND jobs.id = item.id AND jobs.epoch = item.epoch
          AND CASE WHEN jobs.state IN ('scheduled', 'running') THEN true END
        RETURNING item.*, jobs.attempt, jobs.traceparent
    ), result AS (
        INSERT INTO results (tenant, job_id, status, attempt, event, finished_at)
        SELECT tenant, id, status, attempt, event::json, at FROM settled
    ), announced AS (
        INSERT INTO outbox (tenant, job_id, traceparent, event, created_at)
        SELECT tenant, id, traceparent, event::json, now() FROM settled
    ), billed AS (
        INSERT INTO usage (tenant, job_id, item, prompt_tokens, completion_tokens, train_tokens, gpu_s)
        SELECT tenant, id, 'job', prompt_tokens, completion_tokens, train_tokens, gpu_s FROM settled
        ON CONFLICT DO NOTHING
    )
    SELECT tenant, id, epoch FROM settled
""")

INSERT_ADAPTERS: Final = text("""
    INSERT INTO adapters (tenant, id, base, method, artifact_uri, artifact_sha256, size_bytes, job_id,
                          request_sha256, dataset_sha256, code, created_at)
    SELECT tenant, id, base, method, uri, sha256, size_bytes, job_id, request_sha256, dataset_sha256, code, now()
    FROM unnest(CAST(:tenants AS text[]), CAST(:ids AS text[]), CAST(:bases AS text[]), CAST(:methods AS text[]),
                CAST(:uris AS text[]), CAST(:digests AS text[]), CAST(:sizes AS bigint[]), CAST(:jobs AS text[]),
                CAST(:requests AS text[]), CAST(:datasets AS text[]), CAST(:codes AS text[]))
         AS item(tenant, id, base, method, uri, sha256, size_bytes, job_id, request_sha256, dataset_sha256, code)
    ON CONFLICT (tenant, id) DO NOTHING
""")

EXPIRED_LEASES: Final = text("""
    SELECT jobs.tenant, id, kind, epoch, jobs.attempt, worker_id, traceparent, request_sha256,
           CASE WHEN checkpoints.position > reached THEN 1 ELSE lost_attempts + 1 END AS lost
    FROM jobs LEFT JOIN checkpoints ON checkpoints.tenant = jobs.tenant AND checkpoints.job_id = jobs.id
    WHERE jobs.state IN ('scheduled', 'running') AND lease_expires_at < now()
    ORDER BY lease_expires_at
    LIMIT :most
    FOR UPDATE OF jobs SKIP LOCKED
""")

REQUEUE_JOBS: Final = text("""
    UPDATE jobs
    SET state = 'queued', attempt = jobs.attempt + 1, worker_id = NULL, lease_expires_at = NULL,
        available_at = now() + make_interval(secs => item.delay_s),
        lost_attempts = CASE WHEN checkpoints.position > reached THEN 1 ELSE lost_attempts + 1 END,
        reached = greatest(reached, checkpoints.position)
    FROM unnest(CAST(:tenants AS text[]), CAST(:ids AS text[]), CAST(:epochs AS bigint[]),
                CAST(:delays AS double precision[])) AS item(tenant, id, epoch, delay_s)
         LEFT JOIN checkpoints ON checkpoints.tenant = item.tenant AND checkpoints.job_id = item.id
    WHERE jobs.tenant = item.tenant AND jobs.id = item.id AND jobs.epoch = item.epoch
      AND CASE WHEN jobs.state IN ('scheduled', 'running') AND jobs.lease_expires_at < now() THEN true END
    RETURNING jobs.tenant, jobs.id, jobs.epoch
""")


@dataclass(frozen=True)
class Settlement:
    """The terminal event of an attempt, with the lease that allows to write it."""

    lease: Lease
    event: ResultEvent

    @cached_property
    def encoded(self) -> bytes:
        """The event as it is stored, made once however often that is tried."""
        return encode(self.event)


@dataclass(frozen=True)
class ExpiredLease:
    """A job whose worker was not heard of for longer than its lease.

    ``lost`` is how many attempts in a row, this one too, have lost their worker; one that checkpointed further than
    those before is the first of its row.
    """

    lease: Lease
    kind: Kind
    attempt: int
    traceparent: str
    request_sha256: str
    lost: int


def settle(connection: Connection, settlements: Sequence[Settlement]) -> set[Lease]:
    """End jobs; the leases that were still held. An attempt that lost its lease changes nothing.

    One transaction of the caller's: state, result, outbox, usage and adapters, all or none.
    """
    if not settlements:
        return set()
    events = [item.event for item in settlements]
    rows = connection.execute(
        SETTLE_JOBS,
        {
            **lease_columns([item.lease for item in settlements]),
            "statuses": [event.status.value for event in events],
            "events": [item.encoded.decode() for item in settlements],
            "times": [event.finished_at for event in events],
            "errors": [event.error.code if event.error else None for event in events],
            "prompt_tokens": [event.usage.prompt_tokens for event in events],
            "completion_tokens": [event.usage.completion_tokens for event in events],
            "train_tokens": [event.usage.train_tokens for event in events],
            "gpu_s": [event.usage.gpu_s for event in events],
        },
    )
    done = {(row.tenant, row.id, row.epoch) for row in rows}
    settled = [item for item in settlements if (item.lease.tenant, item.lease.job_id, item.lease.epoch) in done]
    _add_adapters(connection, settled)
    return {item.lease for item in settled}


def expired(connection: Connection, most: int) -> list[ExpiredLease]:
    """Jobs whose lease ran out by the database's clock, the longest overdue first.

    They stay locked until the transaction ends: a worker that comes back to renew its lease or to
    settle has to wait, and finds what was decided here. Jobs that another process has locked are
    left out.
    """
    rows = connection.execute(EXPIRED_LEASES, {"most": most})
    return [
        ExpiredLease(
            lease=Lease(row.tenant, row.id, row.epoch, row.worker_id),
            kind=Kind(row.kind),
            attempt=row.attempt,
            traceparent=row.traceparent,
            request_sha256=row.request_sha256,
            lost=row.lost,
        )
        for row in rows
    ]


def reap(
    connection: Connection, decide: Callable[[ExpiredLease], ResultEvent | float], most: int
) -> list[tuple[ExpiredLease, ResultEvent | float]]:
    """End the leases that ran out, at most ``most``, as ``decide`` says; what was decided on each.

    A result event ends the job; a number queues it again, as the next attempt after so many seconds.
    """
    decided = [(item, decide(item)) for item in expired(connection, most)]
    settle(connection, [Settlement(item.lease, end) for item, end in decided if isinstance(end, ResultEvent)])
    again = [(item.lease, delay_s) for item, delay_s in decided if not isinstance(delay_s, ResultEvent)]
    requeue(connection, [lease for lease, _ in again], [delay_s for _, delay_s in again])
    return decided


def requeue(connection: Connection, leases: Sequence[Lease], delays_s: Sequence[float]) -> set[Lease]:
    """Queue jobs again as the next attempt, each after its delay; those whose lease was still overdue."""
    if not leases:
        return set()
    rows = connection.execute(REQUEUE_JOBS, {**lease_columns(leases), "delays": list(delays_s)})
    done = {(row.tenant, row.id, row.epoch) for row in rows}
    return {lease for lease in leases if (lease.tenant, lease.job_id, lease.epoch) in done}


def _add_adapters(connection: Connection, settled: Sequence[Settlement]) -> None:
    tuned = [
        (item.lease, item.event, item.event.result) for item in settled if isinstance(item.event.result, FineTuneResult)
    ]
    if not tuned:
        return
    connection.execute(
        INSERT_ADAPTERS,
        {
            "tenants": [lease.tenant for lease, _, _ in tuned],
            "ids": [result.model for _, _, result in tuned],
            "bases": [result.base for _, _, result in tuned],
            "methods": [result.method for _, _, result in tuned],
            "uris": [result.artifact_uri for _, _, result in tuned],
            "digests": [result.artifact_sha256 for _, _, result in tuned],
            "sizes": [result.size_bytes for _, _, result in tuned],
            "jobs": [lease.job_id for lease, _, _ in tuned],
            "requests": [event.lineage.request for _, event, _ in tuned],
            "datasets": [event.lineage.dataset_sha256 or "" for _, event, _ in tuned],
            "codes": [event.lineage.code for _, event, _ in tuned],
        },
    )
