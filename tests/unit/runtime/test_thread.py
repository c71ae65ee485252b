"""The database's thread: what is tried again, and in which order."""

import asyncio
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import cast

import pytest
from sqlalchemy import Connection

from runtime.database import Database, thread
from runtime.database.thread import DatabaseThread
from runtime.monitoring import OPERATIONS
from schemas.errors import ServerUnreachable


class Flaky:
    """A database that is away for the first transactions."""

    def __init__(self, failures: int) -> None:
        self.failures = failures

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        if self.failures:
            self.failures -= 1
            raise ServerUnreachable("Postgres", "here", "it is away")
        yield cast(Connection, None)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thread, "BACKOFF_S", 0.001)


def test_a_transaction_in_turn_is_tried_until_it_is_committed_and_later_ones_wait_for_it() -> None:
    done: list[str] = []

    def note(_connection: Connection, name: str) -> str:
        done.append(name)
        return name

    async def run() -> None:
        with closing(DatabaseThread(cast(Database, Flaky(failures=3)))) as database:
            answers = await asyncio.gather(*(database.in_turn(note, name) for name in ("first", "second", "third")))
        assert answers == ["first", "second", "third"]

    asyncio.run(run())
    assert done == ["first", "second", "third"]


def test_without_turns_a_later_transaction_overtakes() -> None:
    done: list[str] = []

    async def run() -> None:
        with closing(DatabaseThread(cast(Database, Flaky(failures=1)))) as database:
            await asyncio.gather(*(database.insist(lambda _, name: done.append(name), name) for name in ("a", "b")))

    asyncio.run(run())
    assert done == ["b", "a"]


def test_a_close_ends_the_tries() -> None:
    async def run() -> None:
        database = DatabaseThread(cast(Database, Flaky(failures=1_000_000)))
        trying = asyncio.create_task(database.in_turn(lambda _: None))
        await asyncio.sleep(0)
        database.close()
        with pytest.raises(ServerUnreachable):
            await trying

    asyncio.run(run())


def test_a_transaction_is_measured_under_the_name_of_its_work_each_time_that_it_is_tried() -> None:
    def work_of_this_test(_connection: Connection) -> None:
        """Nothing."""

    async def run() -> None:
        with closing(DatabaseThread(cast(Database, Flaky(failures=2)))) as database:
            await database.insist(work_of_this_test)
            await database.in_turn(work_of_this_test)

    asyncio.run(run())
    reading = OPERATIONS.of(f"{__name__}.work_of_this_test").reading()
    assert (reading.durations.count, reading.errors) == (2, {"ServerUnreachable": 2})
