"""Connections that Postgres has closed: after a restart, a failover, or by an administrator."""

import time

import pytest
from sqlalchemy import text

from runtime.database import Database, engine
from runtime.database.engine import FRESH_S
from schemas.errors import ServerUnreachable

APPLICATION = "test-engine"
SESSION = {
    "TimeZone": "UTC",
    "statement_timeout": "30s",
    "idle_in_transaction_session_timeout": "5s",
    "client_connection_check_interval": "2s",
    "tcp_keepalives_idle": "6",
    "tcp_keepalives_interval": "3",
    "tcp_keepalives_count": "2",
}


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


def test_a_transaction_whose_client_says_nothing_is_ended_and_holds_nobody_up(
    database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "IDLE_TRANSACTION_MS", 100)
    frozen = Database(database_url, APPLICATION)
    lock = text("SELECT pg_advisory_xact_lock(4711)")

    def work() -> None:
        with frozen.begin() as connection:
            connection.execute(lock)
            with database.begin() as other:
                other.execute(lock)
            connection.execute(lock)

    with pytest.raises(ServerUnreachable):
        work()
    assert answer(frozen) == 1
    frozen.close()


def test_a_server_that_takes_no_writes_is_away_and_its_connections_are_not_used_again(database_url: str) -> None:
    failed_over = Database(database_url, APPLICATION)
    with failed_over.begin() as connection:
        connection.execute(text("SET default_transaction_read_only = on"))
    with pytest.raises(ServerUnreachable, match="read-only"), failed_over.begin() as connection:
        connection.execute(text("CREATE TABLE written ()"))
    with failed_over.begin() as connection:
        assert connection.execute(text("SHOW default_transaction_read_only")).scalar_one() == "off"
    failed_over.close()


def test_postgres_looks_for_clients_that_are_gone(database: Database) -> None:
    with database.begin() as connection:
        found = {name: connection.execute(text(f"SHOW {name}")).scalar_one() for name in SESSION}
    assert found == SESSION
