"""Connections that Postgres has closed: after a restart, a failover, or by an administrator."""

import time

import pytest
from sqlalchemy import text

from runtime.database import Database
from runtime.database.engine import FRESH_S
from schemas.errors import ServerUnreachable

APPLICATION = "test-engine"


@pytest.fixture
def closed(database: Database, database_url: str) -> Database:
    """A database whose one connection in the pool was closed by the server."""
    used = Database(database_url, APPLICATION)
    answer(used)
    with database.begin() as connection:
        connection.execute(
            text("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = :name"),
            {"name": APPLICATION},
        )
    return used


def answer(database: Database) -> int:
    with database.begin() as connection:
        return int(connection.execute(text("SELECT 1")).scalar_one())


def test_a_connection_that_was_closed_while_it_lay_idle_is_replaced_before_it_is_used(closed: Database) -> None:
    time.sleep(FRESH_S)  # what is tested: it lies idle
    assert answer(closed) == 1
    closed.close()


def test_one_that_was_closed_just_after_it_had_worked_fails_once(closed: Database) -> None:
    with pytest.raises(ServerUnreachable):
        answer(closed)
    assert answer(closed) == 1
    closed.close()
