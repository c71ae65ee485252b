"""Terminal events between the transaction that wrote them and Kafka, in an order that can be read by place.

Rows become visible out of the order of any serial number. So they are ordered by the transaction that wrote them,
and read only up to the oldest transaction that still runs: before it no row can appear any more.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from msgspec import Struct
from sqlalchemy import Connection, text

from schemas.events import State

#: ``settled``: the row's transaction is before every one that runs. ``xmin`` as in PostgreSQL's manual, 9.28.10.
SELECT_WAITING: Final = text("""
    SELECT *
    FROM (
        SELECT waiting.*, sum(octet_length(event)) OVER (ORDER BY transaction, tenant, job_id) AS total_bytes
        FROM (
            SELECT transaction, outbox.tenant, job_id, outbox.traceparent, event::text AS event, jobs.state,
                   transaction < (pg_snapshot_xmin(pg_current_snapshot())::text)::bigint AS settled
            FROM outbox JOIN jobs ON jobs.tenant = outbox.tenant AND jobs.id = outbox.job_id
            WHERE (transaction, outbox.tenant, job_id) > (:transaction, :tenant, :job_id)
            ORDER BY transaction, outbox.tenant, job_id
            LIMIT :most
        ) AS waiting
    ) AS summed
    WHERE total_bytes - octet_length(event) < :most_bytes
    ORDER BY transaction, tenant, job_id
""")

DELETE_PUBLISHED: Final = text("""
    DELETE FROM outbox WHERE (transaction, tenant, job_id) <= (:transaction, :tenant, :job_id)
""")

DELETE_LANDED: Final = text("""
    DELETE FROM outbox
    USING unnest(CAST(:tenants AS text[]), CAST(:ids AS text[])) AS landed(tenant, job_id)
    WHERE outbox.tenant = landed.tenant AND outbox.job_id = landed.job_id
""")

SELECT_OLDEST: Final = text("SELECT min(created_at) FROM outbox")

#: Which database this is: a copy in another cluster counts its transactions anew.
SELECT_IDENTITY: Final = text("""
    SELECT system_identifier || '/' || (SELECT oid FROM pg_database WHERE datname = current_database())
    FROM pg_control_system()
""")

RENUMBER: Final = text("UPDATE outbox SET transaction = (pg_current_xact_id()::text)::bigint WHERE transaction > 0")

#: How the id of a terminal event ends.
RESULT: Final = "result"


class Position(Struct, frozen=True, order=True):
    """A row's place in the order of the outbox."""

    transaction: int = 0
    tenant: str = ""
    job_id: str = ""


@dataclass(frozen=True)
class Waiting:
    """A terminal event that lies in the outbox; ``event`` is its JSON, ``state`` the one that its job has ended in."""

    position: Position
    traceparent: str
    event: bytes
    state: State


@dataclass(frozen=True)
class Batch:
    """The next rows. ``held_back``: there are more, whose order is not settled while a transaction runs."""

    rows: tuple[Waiting, ...]
    held_back: bool


def result_id(tenant: str, job_id: str) -> str:
    """The CloudEvents id of a job's terminal event: the same for every copy of it."""
    return f"{tenant}/{job_id}/{RESULT}"


def waiting(connection: Connection, after: Position, most: int, most_bytes: int) -> Batch:
    """The rows after a place, at most ``most``, and no more of them once they have ``most_bytes``."""
    parameters = {**_columns(after), "most": most, "most_bytes": most_bytes}
    rows = connection.execute(SELECT_WAITING, parameters).all()
    settled = [row for row in rows if row.settled]
    return Batch(
        tuple(
            Waiting(
                Position(row.transaction, row.tenant, row.job_id), row.traceparent, row.event.encode(), State(row.state)
            )
            for row in settled
        ),
        held_back=len(settled) < len(rows),
    )


def published(connection: Connection, through: Position) -> None:
    """Drop the rows up to a place, which Kafka has for good."""
    connection.execute(DELETE_PUBLISHED, _columns(through))


def landed(connection: Connection, event_ids: Sequence[str]) -> None:
    """Drop the rows whose events Kafka has, by the ids of ``result_id``; other ids change nothing."""
    # Neither a tenant nor a job id has a slash.
    jobs = [parts[:2] for event_id in event_ids if len(parts := event_id.split("/")) == 3 and parts[2] == RESULT]
    connection.execute(DELETE_LANDED, {"tenants": [job[0] for job in jobs], "ids": [job[1] for job in jobs]})


def oldest(connection: Connection) -> datetime | None:
    """When the first row was written that is still there; None if there is none."""
    found: datetime | None = connection.execute(SELECT_OLDEST).scalar_one()
    return found


def identity(connection: Connection) -> str:
    """A name of this database that no copy of it elsewhere shares."""
    return str(connection.execute(SELECT_IDENTITY).scalar_one())


def renumber(connection: Connection) -> None:
    """Give every row the number of this transaction: those it has were counted by another cluster."""
    connection.execute(RENUMBER)


def _columns(position: Position) -> dict[str, object]:
    return {"transaction": position.transaction, "tenant": position.tenant, "job_id": position.job_id}
