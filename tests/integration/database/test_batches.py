"""Batches of rows: every value arrives as it is, by either way, and a batch may be repeated."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, text
from sqlalchemy.exc import IntegrityError

from runtime.database import Database
from runtime.database.batches import Copy, Insert
from runtime.database.columns import Columns, UnfitValue
from schemas.errors import ServerUnreachable

SINGLE = {
    "words": "text",
    "small": "smallint",
    "large": "bigint",
    "amount": "double precision",
    "exact": "numeric",
    "yes": "boolean",
    "at": "timestamptz",
    "wall": "timestamp",
    "day": "date",
    "span": "interval",
    "name": "uuid",
    "body": "json",
    "raw": "bytea",
}
LISTS = {"tags": "text[]", "numbers": "bigint[]", "times": "timestamptz[]", "pieces": "bytea[]"}
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])) | st.sampled_from(
    [
        "",
        "null",
        "NULL",
        "\\N",
        "\\.",
        "\\",
        "\\\\n",
        '"',
        "'",
        "\t",
        "\n",
        "\r\n",
        "{}",
        '{"a",NULL}',
        "%s",
        "\x7f",
        ":a",
    ]
)
BIG = st.integers(-(2**63), 2**63 - 1)
ZONES = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
TIMES = st.datetimes(datetime(2, 1, 1), datetime(9998, 1, 1), timezones=ZONES)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "words": TEXTS,
    "small": st.integers(-(2**15), 2**15 - 1),
    "large": BIG,
    "amount": st.floats(allow_nan=False),
    "exact": st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**20), max_value=10**20, places=6),
    "yes": st.booleans(),
    "at": TIMES,
    "wall": st.datetimes(datetime(1, 1, 1)),
    "day": st.dates(),
    "span": st.timedeltas(timedelta(days=-100_000), timedelta(days=100_000)),
    "name": st.uuids(),
    # Its null is the column's.
    "body": JSON.filter(lambda value: value is not None),
    "raw": st.binary(),
    "tags": st.lists(st.none() | TEXTS),
    "numbers": st.lists(st.none() | BIG),
    "times": st.lists(st.none() | TIMES, max_size=3),
    "pieces": st.lists(st.none() | st.binary(), max_size=3),
}


def rows_of(types: dict[str, str]) -> st.SearchStrategy[list[tuple[Any, ...]]]:
    return st.lists(st.tuples(*(st.none() | VALUES[name] for name in types)), max_size=5)


@pytest.fixture
def table(connection: Connection) -> str:
    listed = ", ".join(f"{name} {type_name}" for name, type_name in (SINGLE | LISTS).items())
    connection.execute(text(f"CREATE TEMPORARY TABLE kept (number serial, {listed})"))
    return "kept"


def read(connection: Connection, names: Sequence[str]) -> list[tuple[Any, ...]]:
    """The rows as Python has them, without any conversion of the driver's that depends on settings."""
    # A json that the driver reads would be text, dictionary or list by its settings.
    shown = [f"CAST({name} AS text)" if name in ("body", "name") else name for name in names]
    rows = connection.exec_driver_sql(f"SELECT {', '.join(shown)} FROM kept ORDER BY number")  # noqa: S608
    return [tuple(_value(name, value) for name, value in zip(names, row, strict=True)) for row in rows]


def _value(name: str, value: Any) -> Any:
    match name, value:
        case _, None:
            return None
        case "body", _:
            return msgspec.json.decode(value)
        case "name", _:
            return UUID(value)
        case "raw", _:
            return bytes(value)
        case "pieces", _:
            return [None if piece is None else bytes(piece) for piece in value]
    return value


FIXTURES = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)


@given(rows=rows_of(SINGLE | LISTS))
@FIXTURES
def test_what_is_copied_arrives_as_it_is(connection: Connection, table: str, rows: list[tuple[Any, ...]]) -> None:
    columns = Columns(**SINGLE, **LISTS)
    connection.execute(text("DELETE FROM kept"))
    assert Copy(table, columns)(connection, rows) == [True] * len(rows)
    assert read(connection, columns.names) == rows


@given(rows=rows_of(SINGLE))
@FIXTURES
def test_what_is_inserted_arrives_as_it_is(connection: Connection, table: str, rows: list[tuple[Any, ...]]) -> None:
    columns = Columns(**SINGLE)
    connection.execute(text("DELETE FROM kept"))
    assert Insert(table, columns)(connection, rows) == [True] * len(rows)
    assert read(connection, columns.names) == rows


@pytest.mark.parametrize("way", [Insert, Copy])
def test_numbers_that_are_none_arrive_too(connection: Connection, table: str, way: type[Insert] | type[Copy]) -> None:
    columns = Columns(amount="double precision", exact="numeric")
    way(table, columns)(connection, [(float("inf"), Decimal("NaN")), (float("nan"), Decimal(1)), (-0.0, 2), (3, None)])
    infinite, nan, zero, three = read(connection, columns.names)
    assert (infinite[0], str(infinite[1])) == (float("inf"), "NaN")
    assert nan[0] != nan[0]
    assert (str(zero[0]), zero[1]) == ("-0.0", 2)
    assert three == (3.0, None)


@pytest.mark.parametrize("way", [Insert, Copy])
def test_a_row_whose_key_is_known_changes_nothing_and_of_two_alike_the_first_counts(
    connection: Connection, way: type[Insert] | type[Copy]
) -> None:
    connection.execute(
        text("CREATE TEMPORARY TABLE kept (tenant text, at timestamptz, note text, UNIQUE (tenant, at))")
    )
    add = way("kept", Columns(tenant="text", at="timestamptz", note="text"), keys=("tenant", "at"))
    now = datetime(2026, 11, 27, tzinfo=UTC)
    assert add(connection, [("a", now, "1"), ("b", now, "2"), ("a", now, "3")]) == [True, True, False]
    assert add(connection, [("a", now, "4"), ("c", now, "5"), ("b", now, "6")]) == [False, True, False]
    stored = connection.execute(text("SELECT tenant, note FROM kept ORDER BY tenant")).all()
    assert stored == [("a", "1"), ("b", "2"), ("c", "5")]


@pytest.mark.parametrize("way", [Insert, Copy])
def test_one_row_that_does_not_fit_sends_nothing(
    connection: Connection, table: str, way: type[Insert] | type[Copy]
) -> None:
    with pytest.raises(UnfitValue):
        way(table, Columns(words="text", large="bigint"))(connection, [("a", 1), ("b", "2")])
    assert read(connection, ("words",)) == []


def test_what_postgres_says_against_a_copied_row_is_an_error_like_any_other(database: Database) -> None:
    with database.begin() as connection:
        connection.execute(text("CREATE TABLE copied (day date CHECK (day > '2026-01-01'))"))
    add = Copy("copied", Columns(day="date"))
    with pytest.raises(IntegrityError), database.begin() as connection:
        add(connection, [(date(2025, 1, 1),)])
    with database.begin() as connection:
        add(connection, [(date(2026, 2, 1),)])


def test_a_connection_that_breaks_under_a_copy_is_an_outage_and_replaced(database: Database, database_url: str) -> None:
    with database.begin() as connection:
        connection.execute(text("CREATE TABLE broken (number bigint)"))
    used = Database(database_url, "test-batches")
    add = Copy("broken", Columns(number="bigint"))

    def break_and_add() -> None:
        with used.begin() as connection:
            server = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
            with database.begin() as other:
                other.execute(text("SELECT pg_terminate_backend(:server, 5000)"), {"server": server})
            add(connection, [(1,)])

    with pytest.raises(ServerUnreachable):
        break_and_add()
    with used.begin() as connection:
        add(connection, [(2,)])
        assert connection.execute(text("SELECT array_agg(number) FROM broken")).scalar_one() == [2]
    used.close()
