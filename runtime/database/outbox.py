"""Terminal events between the transaction that wrote them and Kafka, in an order that can be read by place.

Rows become visible out of the order of any serial number. So they are ordered by the transaction that wrote them, and
the place from which on they are read again stays before the oldest transaction that still runs: up to there no row can
appear any more. What is visible beyond it is read all the same, and dropped by its key. So nobody who keeps a
transaction open, in whichever database of the cluster, keeps a result from being published.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from msgspec import Struct
from sqlalchemy import Connection, text

from runtime.database.prepared import prepared
from schemas.events import State

#: ``settled``: the row's transaction is before every one that runs. ``xmin`` as in PostgreSQL's manual, 9.28.10.
SELECT_WAITING: Final = prepared("""
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

DELETE_ROWS: Final = prepared("""
    DELETE FROM outbox
    USING unnest(CAST(:tenants AS text[]), CAST(:ids AS text[])) AS item(tenant, job_id)
    WHERE outbox.tenant = item.tenant AND outbox.job_id = item.job_id
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
    """The next rows, and the place after which to look for more once they are published."""

    rows: tuple[Waiting, ...]
    through: Position


def result_id(tenant: str, job_id: str) -> str:
    """The CloudEvents id of a job's terminal event: the same for every copy of it."""
    return f"{tenant}/{job_id}/{RESULT}"


def waiting(connection: Connection, after: Position, most: int, most_bytes: int) -> Batch:
    """The rows after a place, at most ``most``, and no more of them once they have ``most_bytes``."""
    parameters = {**_columns(after), "most": most, "most_bytes": most_bytes}
    rows = connection.execute(SELECT_WAITING, parameters).all()
    places = [Position(row.transaction, row.tenant, row.job_id) for row in rows]
    settled = [place for place, row in zip(places, rows, strict=True) if row.settled]
    return Batch(
        tuple(
            Waiting(place, row.traceparent, row.event.encode(), State(row.state))
            for place, row in zip(places, rows, strict=True)
        ),
        through=settled[-1] if settled else after,
    )


def published(connection: Connection, rows: Sequence[Waiting]) -> None:
    """Drop rows that Kafka has for good."""
    _drop(connection, [(row.position.tenant, row.position.job_id) for row in rows])


def landed(connection: Connection, event_ids: Sequence[str]) -> None:
    """Drop the rows whose events Kafka has, by the ids of ``result_id``; other ids change nothing."""
    # Neither a tenant nor a job id has a slash.
    parts = [event_id.split("/") for event_id in event_ids]
    _drop(connection, [(part[0], part[1]) for part in parts if len(part) == 3 and part[2] == RESULT])


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


def _drop(connection: Connection, jobs: Sequence[tuple[str, str]]) -> None:
    connection.execute(DELETE_ROWS, {"tenants": [job[0] for job in jobs], "ids": [job[1] for job in jobs]})


def _columns(position: Position) -> dict[str, object]:
    return {"transaction": position.transaction, "tenant": position.tenant, "job_id": position.job_id}
