"""A migrated database, and a transaction that is rolled back after each test."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Connection

from runtime.database import Database
from runtime.database.migrate import upgrade


@pytest.fixture(scope="module")
def database(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    upgrade(database)
    yield database
    database.close()


@pytest.fixture
def connection(database: Database) -> Iterator[Connection]:
    with database.engine.connect() as connection:
        yield connection
        connection.rollback()
