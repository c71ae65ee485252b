"""Prepared statements: parsed once for a connection, and planned anew before a table has outgrown its plan."""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, text

from runtime.database import Database
from runtime.database import prepared as module
from runtime.database.prepared import prepared
from schemas.errors import ServerUnreachable

TIMES = prepared("""
    SELECT at, 100 % 7 AS rest, '%' AS sign FROM unnest(CAST(:times AS timestamptz[])) AS item(at)
    WHERE :all OR at > CAST(:since AS timestamptz) LIMIT :most
""")
FIND = prepared("SELECT note FROM found WHERE id = :id")
NOW = datetime(2026, 11, 27, tzinfo=UTC)


@pytest.fixture
def one(database_url: str) -> Iterator[Database]:
    """A database whose transactions all have the same connection, for nobody else takes one."""
    one = Database(database_url)
    yield one
    one.close()


def names(connection: Connection) -> list[str]:
    return list(connection.execute(text("SELECT name FROM pg_prepared_statements")).scalars())


@pytest.mark.parametrize("times", [[NOW, None], [None, None], []], ids=["a value", "nulls alone", "nothing"])
def test_lists_keep_their_type_and_percent_signs_their_meaning(one: Database, times: list[datetime | None]) -> None:
    with one.begin() as connection:
        rows = connection.execute(TIMES, {"times": times, "all": True, "since": NOW, "most": 10}).all()
    assert rows == [(at, 2, "%") for at in times]


def test_a_statement_is_prepared_once_for_a_connection(one: Database) -> None:
    for _ in range(3):
        with one.begin() as connection:
            connection.execute(TIMES, {"times": [], "all": True, "since": NOW, "most": 10})
            assert len(names(connection)) == 1


def test_one_that_failed_leaves_a_connection_that_still_knows_it(one: Database) -> None:
    with one.begin() as connection:
        connection.exec_driver_sql("CREATE TEMPORARY TABLE found (id int, note text)")
        connection.execute(FIND, {"id": 1})
    with pytest.raises(ServerUnreachable, match="timeout"), one.begin() as connection:
        connection.exec_driver_sql("SET LOCAL statement_timeout = 1; SELECT pg_sleep(1)")
    with one.begin() as connection:
        assert connection.execute(FIND, {"id": 1}).all() == []


def test_a_new_connection_prepares_what_the_one_before_it_had(one: Database, database: Database) -> None:
    arguments = {"times": [NOW], "all": True, "since": NOW, "most": 10}
    with one.begin() as connection:
        connection.execute(TIMES, arguments)
        server = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
    with database.begin() as connection:
        connection.execute(text("SELECT pg_terminate_backend(:server, 5000)"), {"server": server})
    with pytest.raises(ServerUnreachable), one.begin() as connection:
        connection.execute(TIMES, arguments)
    with one.begin() as connection:
        assert len(connection.execute(TIMES, arguments).all()) == 1


def test_a_table_that_has_grown_since_is_no_longer_read_from_end_to_end(
    one: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def scans(connection: Connection) -> int:
        connection.execute(FIND, {"id": 1})
        plan = connection.exec_driver_sql(f"EXPLAIN EXECUTE {module._prepared(str(compiled)).name} (1)")
        return sum("Seq Scan" in row[0] for row in plan)

    with one.engine.connect() as connection:
        compiled = FIND.compile(connection.engine)
        connection.exec_driver_sql("SET plan_cache_mode = force_generic_plan")
        # Without statistics, as nobody has analyzed it.
        connection.exec_driver_sql("CREATE TEMPORARY TABLE found (id int PRIMARY KEY, note text)")
        connection.exec_driver_sql("SET enable_bitmapscan = off")
        connection.exec_driver_sql("SET enable_indexscan = off")
        assert scans(connection) == 1
        connection.exec_driver_sql("RESET enable_indexscan")
        connection.exec_driver_sql("INSERT INTO found SELECT generate_series(1, 10000), 'x'")
        assert scans(connection) == 1
        monkeypatch.setattr(module, "PLANS_S", 0.0)
        assert scans(connection) == 0


ECHO = prepared("SELECT CAST(:texts AS text[]) AS texts, CAST(:numbers AS bigint[]) AS numbers")


@given(
    texts=st.lists(st.none() | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))),
    numbers=st.lists(st.none() | st.integers(-(2**63), 2**63 - 1)),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_a_list_arrives_as_it_is(connection: Connection, texts: list[str | None], numbers: list[int | None]) -> None:
    row = connection.execute(ECHO, {"texts": texts, "numbers": numbers}).one()
    assert (row.texts, row.numbers) == (texts, numbers)


@pytest.mark.parametrize(
    "text", ["", "null", "NULL", '"', "\\", '\\"', "\\\\n", "a\nb\tc\x7f", "{1,2}", "%s %(x)s", "'"]
)
def test_a_text_arrives_as_it_is(connection: Connection, text: str) -> None:
    assert connection.execute(ECHO, {"texts": [text, None], "numbers": []}).one().texts == [text, None]
