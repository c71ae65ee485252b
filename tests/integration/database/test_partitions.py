"""Partitions by day: made ahead and dropped by age, beside those who read and write."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, date, datetime, timedelta

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import IntegrityError

from runtime.database import Database, partitions
from runtime.database.partitions import AHEAD_DAYS, DayPartitions, PartitionKeeper, day_of
from schemas.errors import ServerUnreachable
from tests.integration.database.waiting import wait_for_lock

DAYS = DayPartitions("metric_samples")
INSERT = text("INSERT INTO metric_samples VALUES ('worker-1', 'x', :at, 1)")
KEPT = 14


@pytest.fixture
def today(database: Database) -> Iterator[date]:
    """Today by Postgres' clock; the table has no partition before the test, and none after it."""
    with database.begin() as connection:
        yield DAYS.days(connection)[0]
    with database.begin() as connection:
        for name in tables(connection):
            connection.execute(text(f"DROP TABLE {name}"))


def tables(connection: Connection) -> list[str]:
    """Those that are partitions, and those that were."""
    names = text("SELECT relname FROM pg_class WHERE relkind = 'r' AND relname LIKE 'metric_samples_2%' ORDER BY 1")
    return [str(name) for name in connection.execute(names).scalars()]


def attached(database: Database) -> set[date]:
    with database.begin() as connection:
        return DAYS.days(connection)[1]


def make(database: Database, *days: date) -> None:
    with database.begin() as connection:
        DAYS.make(connection, days)


def noon(day: date) -> dict[str, datetime]:
    return {"at": datetime(day.year, day.month, day.day, 12, tzinfo=UTC)}


def test_days_are_made_ahead_and_dropped_by_age_and_another_visit_changes_nothing(
    database: Database, today: date
) -> None:
    oldest, over = today - timedelta(days=KEPT), today - timedelta(days=KEPT + 1)
    make(database, over - timedelta(days=100), over, oldest)
    ahead = [today + timedelta(days=number) for number in range(AHEAD_DAYS + 1)]
    visit = DAYS.keep(database, KEPT)
    assert visit.made == tuple(ahead)
    assert visit.dropped == (over - timedelta(days=100), over)
    assert attached(database) == {oldest, *ahead}
    assert DAYS.keep(database, KEPT) == partitions.Visit((), ())


def test_a_partition_has_the_rows_of_its_day_of_utc_and_the_tables_key(database: Database, today: date) -> None:
    make(database, today)
    start = datetime(today.year, today.month, today.day, tzinfo=UTC)
    with database.begin() as connection:
        for at in (start, start + timedelta(days=1, microseconds=-1)):
            connection.execute(INSERT, {"at": at})
        of_day = connection.exec_driver_sql(f"SELECT count(*) FROM metric_samples_{today:%Y%m%d}")  # noqa: S608
        assert of_day.scalar_one() == 2
    for wrong in (start, start - timedelta(microseconds=1), start + timedelta(days=1)):
        with pytest.raises(IntegrityError), database.begin() as connection:
            connection.execute(INSERT, {"at": wrong})


def test_processes_may_visit_at_once(database: Database, today: date) -> None:
    make(database, *(today - timedelta(days=number) for number in range(20, 26)))
    with ThreadPoolExecutor(4) as pool:
        visits = list(pool.map(lambda _: DAYS.keep(database, KEPT), range(8)))
    assert sorted(day for visit in visits for day in visit.dropped) == [
        today - timedelta(days=number) for number in range(25, 19, -1)
    ]
    assert sum(len(visit.made) for visit in visits) == AHEAD_DAYS + 1


def test_a_day_is_made_beside_transactions_that_read_and_write(database: Database, today: date) -> None:
    make(database, today)
    with database.begin() as writer, database.begin() as reader:
        writer.execute(INSERT, noon(today))
        reader.execute(text("SELECT count(*) FROM metric_samples")).all()
        make(database, today + timedelta(days=1))
    assert attached(database) == {today, today + timedelta(days=1)}


def test_a_drop_waits_for_a_reader_and_holds_up_nobody(database: Database, today: date) -> None:
    old = today - timedelta(days=KEPT + 1)
    make(database, old, today)
    with ThreadPoolExecutor(1) as pool:
        with database.begin() as reader:
            reader.execute(text("SELECT count(*) FROM metric_samples")).all()
            dropping = pool.submit(DAYS.keep, database, KEPT)
            wait_for_lock(database)
            with database.begin() as connection:
                connection.execute(text("SET LOCAL lock_timeout = 1000"))
                connection.execute(INSERT, noon(today))
                assert connection.execute(text("SELECT count(*) FROM metric_samples")).scalar_one() == 1
        assert dropping.result(30).dropped == (old,)


def test_a_drop_that_was_cut_off_is_finished_by_the_next_visit(
    database: Database, database_url: str, today: date
) -> None:
    """After either half of the detaching, and after all of it."""
    half, whole = today - timedelta(days=30), today - timedelta(days=31)
    make(database, half, whole)
    detach = "ALTER TABLE metric_samples DETACH PARTITION metric_samples_{:%Y%m%d} CONCURRENTLY"
    with database.autocommit() as connection:
        connection.exec_driver_sql(detach.format(whole))

    def give_up() -> None:
        with closing(Database(database_url)) as impatient, impatient.autocommit() as connection:
            connection.exec_driver_sql("SET statement_timeout = 200")
            connection.exec_driver_sql(detach.format(half))

    with database.begin() as reader:
        reader.execute(text("SELECT count(*) FROM metric_samples")).all()
        with pytest.raises(ServerUnreachable):
            give_up()
    assert attached(database) == set()
    with database.begin() as connection:
        assert len(tables(connection)) == 2
    assert DAYS.keep(database, KEPT).dropped == (whole, half)
    with database.begin() as connection:
        assert len(tables(connection)) == AHEAD_DAYS + 1


def test_who_waits_for_a_lock_gives_up_and_leaves_no_lock_behind(
    database: Database, today: date, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partitions, "LOCK_TIMEOUT", "50ms")
    with database.begin() as other:
        other.execute(text("LOCK TABLE metric_samples IN SHARE UPDATE EXCLUSIVE MODE"))
        with pytest.raises(ServerUnreachable, match="lock timeout"):
            DAYS.keep(database, KEPT)
    DAYS.keep(database, KEPT)
    assert today in attached(database)
    with database.begin() as connection:
        locks = text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")
        assert connection.execute(locks).scalar_one() == 0


def test_the_keeper_makes_its_first_visit_at_once_and_tries_again_after_one_that_failed(
    database: Database, today: date, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partitions, "RETRY_S", 0.001)
    visited = threading.Event()

    class Failing(DayPartitions):
        failures = 2

        def keep(self, database: Database, days: int) -> partitions.Visit:
            if self.failures:
                self.failures -= 1
                raise ServerUnreachable("Postgres", "here", "it is away")
            visit = super().keep(database, days)
            visited.set()
            return visit

    with closing(PartitionKeeper(database, Failing("metric_samples"), KEPT)):
        assert visited.wait(30)
    assert today in attached(database)


def test_a_day_is_that_of_utc() -> None:
    assert day_of(datetime.fromisoformat("2026-11-28T00:30:00+01:00")) == date(2026, 11, 27)
