"""The history of metrics in Postgres."""

from datetime import UTC, datetime, timedelta

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, text

from runtime.database import Database
from runtime.database.migrate import _config, upgrade
from runtime.database.partitions import AHEAD_DAYS
from runtime.database.samples import PARTITIONS, MetricSample, Point, Stored, names, series, store
from runtime.database.tables import metadata

DAYS = 14
#: A wrong one must not matter: what counts is Postgres'.
NOW = datetime.now(UTC).replace(second=0, microsecond=0)


def sample(
    value: float = 1.0, *, minutes: int = 0, days: int = 0, source: str = "worker-1", name: str = "up"
) -> MetricSample:
    return MetricSample(source, name, NOW + timedelta(minutes=minutes, days=days), value)


def test_a_series_is_what_lies_between_two_times_in_order(connection: Connection) -> None:
    rows = [sample(float(minute), minutes=minute) for minute in (3, 1, 2, 0)]
    others = [sample(source="worker-2"), sample(name='up{kind="generate"}')]
    assert store(connection, rows + others, DAYS) == [Stored.NEW] * 6
    found = series(connection, "worker-1", "up", NOW + timedelta(minutes=1), NOW + timedelta(minutes=3))
    assert found == [Point(NOW + timedelta(minutes=minute), float(minute)) for minute in (1, 2)]
    assert series(connection, "worker-1", "up", NOW, NOW + timedelta(days=1), most=1) == [Point(NOW, 0.0)]
    assert series(connection, "worker-3", "up", NOW, NOW + timedelta(days=1)) == []


def test_the_series_of_a_time_are_found(connection: Connection) -> None:
    store(connection, [sample(), sample(source="worker-2", name="b"), sample(minutes=5, name="late")], DAYS)
    assert names(connection, NOW, NOW + timedelta(minutes=1)) == [("worker-1", "up"), ("worker-2", "b")]
    assert names(connection, NOW, NOW + timedelta(minutes=9), most=1) == [("worker-1", "late")]


def test_a_repeat_changes_nothing_and_of_a_minute_the_first_counts(connection: Connection) -> None:
    assert store(connection, [sample(1.0), sample(2.0)], DAYS) == [Stored.NEW, Stored.KNOWN]
    assert store(connection, [sample(3.0), sample(4.0, minutes=1)], DAYS) == [Stored.KNOWN, Stored.NEW]
    found = series(connection, "worker-1", "up", NOW, NOW + timedelta(hours=1))
    assert [point.value for point in found] == [1.0, 4.0]


def test_a_day_without_a_partition_gets_one_and_one_far_away_fails_nothing(connection: Connection) -> None:
    far = [sample(days=-DAYS - 1), sample(days=AHEAD_DAYS + 1), sample(days=365 * 5_000)]
    near = [sample(days=-DAYS), sample(days=AHEAD_DAYS), sample()]
    assert store(connection, [far[0], *near, *far[1:]], DAYS) == [
        Stored.OUTSIDE, Stored.NEW, Stored.NEW, Stored.NEW, Stored.OUTSIDE, Stored.OUTSIDE,
    ]  # fmt: skip
    assert store(connection, far, DAYS) == [Stored.OUTSIDE] * 3


def test_a_day_that_is_in_use_can_be_written_by_two_who_make_it(database: Database) -> None:
    """The second waits for the first, and finds the day."""
    with database.begin() as connection:
        store(connection, [sample(days=-3)], DAYS)
    with database.begin() as connection:
        assert store(connection, [sample(days=-3), sample(days=-3, minutes=1)], DAYS) == [Stored.KNOWN, Stored.NEW]


def test_a_series_is_read_by_the_key_of_the_days_that_it_touches(database: Database) -> None:
    PARTITIONS.keep(database, DAYS)
    with database.begin() as connection:
        store(connection, [sample(days=-2), sample(days=-1), sample()], DAYS)
        connection.execute(text("SET LOCAL enable_seqscan = off"))
        midnight = NOW.replace(hour=0, minute=0)
        query = "SELECT at FROM metric_samples WHERE source = 'a' AND series = 'b' AND at >= :since AND at < :end"
        plan = connection.execute(text(f"EXPLAIN {query}"), {"since": midnight, "end": midnight + timedelta(days=1)})
        lines = [row[0] for row in plan]
    assert sum("Scan" in line for line in lines) == 1
    assert any(f"metric_samples_{NOW:%Y%m%d}_pkey" in line for line in lines)


def test_the_migration_goes_back_and_forth_with_partitions_and_rows(database: Database) -> None:
    PARTITIONS.keep(database, DAYS)
    with database.begin() as connection:
        store(connection, [sample()], DAYS)
    with database.begin() as connection:
        command.downgrade(_config(connection), "0004")
        assert connection.execute(text("SELECT to_regclass('metric_samples')")).scalar_one() is None
        left = text("SELECT count(*) FROM pg_class WHERE relname LIKE 'metric_samples%'")
        assert connection.execute(left).scalar_one() == 0
    upgrade(database)
    with database.begin() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


@pytest.mark.parametrize("days", [0, 1])
def test_a_short_retention_keeps_today(connection: Connection, days: int) -> None:
    assert store(connection, [sample()], days) == [Stored.NEW]
