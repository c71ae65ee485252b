"""Partitions of a table, one a day of UTC: made ahead, dropped by age, by whoever comes first.

No step keeps those out who read or write the table (https://www.postgresql.org/docs/15/explicit-locking.html):

- A partition is made as a table of its own and attached, which takes a lock on the parent (SHARE UPDATE EXCLUSIVE) that
  only such work as this asks for. ``CREATE TABLE … PARTITION OF`` waits for all transactions, and all others for it.
- It is detached ``CONCURRENTLY``, which waits for older transactions without a lock, and dropped once it is nobody's:
  ``DROP TABLE`` of an attached one locks the parent altogether. What is left in between is found by the next visit.

The clock is Postgres'.
"""

import logging
import threading
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Final

from msgspec import Struct
from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError

from runtime.database.engine import Database
from schemas.errors import ServerUnreachable

log = logging.getLogger(__name__)

#: Days that have their partition before they begin.
AHEAD_DAYS: Final = 2
#: Between two visits, and after one that failed.
VISIT_S: Final = 3_600.0
RETRY_S: Final = 60.0
#: Whoever waits longer for such a lock holds up those behind it; it is tried again.
LOCK_TIMEOUT: Final = "2s"

SELECT_TODAY: Final = text("SELECT CAST(now() AT TIME ZONE 'UTC' AS date)")

#: ``detaching`` is null of a table that is no partition: it was detached, and then nobody dropped it.
SELECT_PARTITIONS: Final = text("""
    SELECT to_date(right(relname, 8), 'YYYYMMDD') AS day, inhdetachpending AS detaching
    FROM pg_class LEFT JOIN pg_inherits ON inhrelid = pg_class.oid AND inhparent = CAST(:table AS regclass)
    WHERE relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = CAST(:table AS regclass))
      AND relkind = 'r' AND relname ~ ('^' || :table || '_[0-9]{8}$')
    ORDER BY day
""")

LOCK: Final = text("SELECT pg_advisory_xact_lock(hashtextextended(:lock, 0))")
TRY_LOCK: Final = text("SELECT pg_try_advisory_lock(hashtextextended(:lock, 0))")
UNLOCK: Final = text("SELECT pg_advisory_unlock(hashtextextended(:lock, 0))")


class Visit(Struct, frozen=True):
    """The days whose partitions were made and dropped."""

    made: tuple[date, ...]
    dropped: tuple[date, ...]


class DayPartitions:
    """The partitions of one table, which is partitioned by range of a time with its zone."""

    def __init__(self, table: str) -> None:
        self._table = table

    def days(self, connection: Connection) -> tuple[date, set[date]]:
        """Today, and the days that have a partition."""
        today: date = connection.execute(SELECT_TODAY).scalar_one()
        rows = connection.execute(SELECT_PARTITIONS, {"table": self._table})
        return today, {row.day for row in rows if row.detaching is False}

    def make(self, connection: Connection, days: Iterable[date]) -> tuple[date, ...]:
        """Give each of these days its partition, in this transaction; those that had none.

        Call it before the transaction has touched the table: whoever waits here, for whoever makes the same ones, must
        hold nothing.
        """
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
        connection.execute(LOCK, {"lock": f"{self._table} partitions are made"})
        _, known = self.days(connection)
        made = tuple(sorted(set(days) - known))
        for day in made:
            name = self._name(day)
            connection.exec_driver_sql(f"CREATE TABLE IF NOT EXISTS {name} (LIKE {self._table} INCLUDING ALL)")
            bounds = f"FROM ({_start(day)}) TO ({_start(day + timedelta(days=1))})"
            connection.exec_driver_sql(f"ALTER TABLE {self._table} ATTACH PARTITION {name} FOR VALUES {bounds}")
        connection.exec_driver_sql("SET LOCAL lock_timeout = DEFAULT")
        return made

    def keep(self, database: Database, days: int) -> Visit:
        """Make the partitions of today and the next days, and drop those that are older than ``days`` days.

        It may be called at any time by any process: where another one is at it nothing is dropped here.

        Raises:
            ServerUnreachable: Postgres is away, or a lock was not to be had; the next visit goes on (retryable).
        """
        with database.begin() as connection:
            today = connection.execute(SELECT_TODAY).scalar_one()
            made = self.make(connection, [today + timedelta(days=number) for number in range(AHEAD_DAYS + 1)])
        lock = {"lock": f"{self._table} partitions are dropped"}
        with database.autocommit() as connection:
            if not connection.execute(TRY_LOCK, lock).scalar_one():
                return Visit(made, ())
            try:
                return Visit(made, self._drop(connection, today - timedelta(days=days)))
            finally:
                if not connection.invalidated:
                    connection.execute(UNLOCK, lock)

    def _drop(self, connection: Connection, before: date) -> tuple[date, ...]:
        """Drop the partitions of the days before this one.

        1. It is detached, in two transactions. A crash, or a reader that takes too long, between them: it is found as
           detaching, and that is finished.
        2. Its table is dropped. A crash before: it is found as a table without a parent.
        """
        rows = connection.execute(SELECT_PARTITIONS, {"table": self._table}).all()
        old = [row for row in rows if row.day < before]
        for row in old:
            name = self._name(row.day)
            if row.detaching is not None:
                how = "FINALIZE" if row.detaching else "CONCURRENTLY"
                connection.exec_driver_sql(f"ALTER TABLE {self._table} DETACH PARTITION {name} {how}")
            connection.exec_driver_sql(f"DROP TABLE IF EXISTS {name}")
        return tuple(row.day for row in old)

    def _name(self, day: date) -> str:
        return f"{self._table}_{day:%Y%m%d}"


class PartitionKeeper:
    """A thread that keeps a table's partitions, every hour."""

    def __init__(self, database: Database, partitions: DayPartitions, days: int) -> None:
        self._database = database
        self._partitions = partitions
        self._days = days
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="partitions", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Make no more visits. One that is being made goes on: it may wait for Postgres."""
        self._closed.set()

    def _run(self) -> None:
        wait_s = 0.0
        while not self._closed.wait(wait_s):
            try:
                visit = self._partitions.keep(self._database, self._days)
            except (ServerUnreachable, SQLAlchemyError) as error:
                log.warning("The partitions are not kept: %s Trying again in %g s.", error, RETRY_S)
                wait_s = RETRY_S
                continue
            wait_s = VISIT_S
            if visit.made or visit.dropped:
                log.info("%d partitions were made, %d dropped.", len(visit.made), len(visit.dropped))


def day_of(at: datetime) -> date:
    """The day in whose partition a row of this time lies."""
    return at.astimezone(UTC).date()


def _start(day: date) -> str:
    return f"'{day.isoformat()} 00:00:00+00'"
