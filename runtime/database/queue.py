"""The jobs that wait, read page by page in the order in which they became available."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import Connection, text

from runtime.database.jobs import QueuedJob
from runtime.database.prepared import prepared
from schemas.topics import Kind

#: Keyset pages: a cursor by offset would skip a job whenever one before it is given to a worker.
SELECT_QUEUED: Final = prepared("""
    SELECT tenant, id, priority, model, queued_at, available_at, traceparent, attempt, cost, lost_attempts,
           extract(epoch FROM now() - queued_at)::double precision AS waited_s
    FROM jobs
    WHERE state = 'queued' AND kind = :kind AND available_at <= now()
      AND (available_at, tenant, id) > (CAST(:available_at AS timestamptz), :tenant, :id)
    ORDER BY available_at, tenant, id
    LIMIT :most
""")

SELECT_NOW: Final = text("SELECT now()")


@dataclass(frozen=True)
class Mark:
    """A place in the queue: the job that became available then, or where there is none, before the next."""

    available_at: datetime
    tenant: str = ""
    id: str = ""

    def before(self, seconds: float) -> "Mark":
        """The place so long before."""
        return Mark(max(self.available_at - timedelta(seconds=seconds), BEGINNING.available_at))


BEGINNING: Final = Mark(datetime(1970, 1, 1, tzinfo=UTC))


@dataclass(frozen=True)
class Page:
    """Jobs after a mark, up to another: that of the last one, or of the present where there are no more."""

    jobs: Sequence[QueuedJob]
    end: Mark
    last: bool


def queued(connection: Connection, kind: Kind, after: Mark, most: int) -> Page:
    """At most ``most`` jobs of a kind that wait and may start now, from ``after`` on.

    The present is the database's, as of the transaction's start: a job that another transaction was about
    to make available may lie before it. Who goes on from there goes back by as long as one lasts.
    """
    present: datetime = connection.execute(SELECT_NOW).scalar_one()
    rows = connection.execute(
        SELECT_QUEUED,
        {"kind": kind.value, "available_at": after.available_at, "tenant": after.tenant, "id": after.id, "most": most},
    ).all()
    jobs = [
        QueuedJob(
            # The same few tenants and models again and again: one string each.
            sys.intern(row.tenant),
            row.id,
            kind,
            row.priority,
            sys.intern(row.model),
            row.queued_at,
            row.traceparent,
            row.attempt,
            row.cost,
            row.lost_attempts,
            max(row.waited_s, 0.0),
        )
        for row in rows
    ]
    if len(rows) < most:
        return Page(jobs, Mark(present), last=True)
    return Page(jobs, Mark(rows[-1].available_at, rows[-1].tenant, rows[-1].id), last=False)
