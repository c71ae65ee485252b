"""Group commit on a real Postgres: who is refused, and what a broken connection does."""

import asyncio
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError, ProgrammingError

from runtime.database import Database
from runtime.database.batches import Copy, Insert
from runtime.database.columns import Columns, UnfitValue
from runtime.database.group_commit import Bounds, GroupCommit
from schemas.errors import ServerUnreachable

Row = tuple[object, ...]
COLUMNS = Columns(id="text", number="bigint")
#: Nothing is written before there are enough rows, or the writer is closed.
TOGETHER = Bounds(linger_s=3_600)


@pytest.fixture(scope="module", autouse=True)
def _table(database: Database) -> None:
    with database.begin() as connection:
        connection.execute(text("CREATE TABLE numbers (id text PRIMARY KEY, number bigint CHECK (number >= 0))"))


@pytest.fixture(autouse=True)
def _emptied(_table: None, database: Database) -> Iterator[None]:
    yield
    with database.begin() as connection:
        connection.execute(text("TRUNCATE numbers"))


def stored(database: Database) -> dict[str, int]:
    with database.begin() as connection:
        return {row.id: row.number for row in connection.execute(text("SELECT id, number FROM numbers"))}


@pytest.mark.parametrize("way", [Insert, Copy])
def test_threads_and_tasks_share_transactions(database: Database, way: type[Insert] | type[Copy]) -> None:
    with closing(GroupCommit(database, way("numbers", COLUMNS))) as commit:

        async def tasks() -> None:
            answers = await asyncio.gather(*(commit.write_async((f"task-{number}", number)) for number in range(300)))
            assert answers == [True] * 300

        with ThreadPoolExecutor(8) as pool:
            threads = pool.map(commit.write, [(f"thread-{number}", number) for number in range(300)])
            asyncio.run(tasks())
            assert list(threads) == [True] * 300
    assert len(stored(database)) == commit.statistics.rows == 600
    assert commit.statistics.batches < 100


@pytest.mark.parametrize("way", [Insert, Copy])
def test_each_caller_hears_of_its_own_row(database: Database, way: type[Insert] | type[Copy]) -> None:
    """What is refused: by a check, by the type, by the driver for an index, and for a key that is there."""
    large = os.urandom(4_096).hex()
    rows: list[Row] = [("a", 1), ("b", -1), ("c", 2**63), (large, 4), ("d", "5"), ("e", 6), ("a", 7), ("f", 8)]
    commit = GroupCommit(database, way("numbers", COLUMNS), TOGETHER)
    answers = [commit.submit(row) for row in rows]
    assert commit.close()
    errors = [type(answer.exception()) for answer in answers]
    assert [errors[0], errors[1], *errors[3:]] == [
        type(None), IntegrityError, OperationalError, UnfitValue, type(None), IntegrityError, type(None),
    ]  # fmt: skip
    assert issubclass(errors[2], DBAPIError)
    assert stored(database) == {"a": 1, "e": 6, "f": 8}
    assert (commit.statistics.refused, commit.statistics.lost) == (5, 0)


def test_a_table_that_is_missing_is_nobodys_fault_and_is_not_looked_for_in_each_row(database: Database) -> None:
    commit = GroupCommit(database, Insert("elsewhere", COLUMNS), TOGETHER)
    answers = [commit.submit((str(number), number)) for number in range(100)]
    commit.close()
    assert {type(answer.exception()) for answer in answers} == {ProgrammingError}
    assert (commit.statistics.refused, commit.statistics.halved) == (100, 0)


def test_a_batch_that_takes_too_long_is_halved_and_its_slow_row_fails(database: Database) -> None:
    insert = Insert("numbers", COLUMNS)

    def slow(connection: Connection, rows: Sequence[Row]) -> list[bool]:
        connection.execute(text("SET LOCAL statement_timeout = 200"))
        if ("slow", 2) in rows:
            connection.execute(text("SELECT pg_sleep(60)"))
        return insert(connection, rows)

    commit = GroupCommit(database, slow, TOGETHER, patience_s=60)
    answers = [commit.submit(row) for row in [("a", 1), ("slow", 2), ("b", 3)]]
    assert commit.close()
    assert [answer.exception() is None for answer in answers] == [True, False, True]
    assert stored(database) == {"a": 1, "b": 3}


@pytest.mark.parametrize("patience_s", [0.0, 60.0])
def test_a_connection_that_breaks_is_an_outage(database: Database, patience_s: float) -> None:
    insert = Insert("numbers", COLUMNS, keys=("id",))
    tries = 0

    def broken(connection: Connection, rows: Sequence[Row]) -> list[bool]:
        nonlocal tries
        tries += 1
        if tries == 1:
            server = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
            with database.begin() as other:
                other.execute(text("SELECT pg_terminate_backend(:server, 5000)"), {"server": server})
        return insert(connection, rows)

    commit = GroupCommit(database, broken, TOGETHER, patience_s=patience_s)
    answers = [commit.submit((str(number), number)) for number in range(10)]
    commit.close()
    if patience_s:
        assert [answer.result() for answer in answers] == [True] * 10
        assert len(stored(database)) == 10
    else:
        assert {type(answer.exception()) for answer in answers} == {ServerUnreachable}
        assert stored(database) == {}
