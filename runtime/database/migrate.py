"""Bring the schema up to date; several processes may try at once."""

import logging
from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from runtime.database.engine import Database

MIGRATIONS: Final = Path(__file__).parent / "migrations"
#: Any number that no other program uses for an advisory lock of this database.
LOCK: Final = 0x48656164726163
STATISTICS_TO_CREATE: Final = text("""
    SELECT FROM pg_available_extensions WHERE name = 'pg_stat_statements' AND installed_version IS NULL
""")

log = logging.getLogger(__name__)


def upgrade(database: Database) -> None:
    """Apply the migrations that the database lacks; a second caller waits for the first.

    Raises:
        ServerUnreachable: Postgres is away.
    """
    with database.begin() as connection:
        # An index of a large table takes longer than any statement of ours may, and the next caller waits for it.
        connection.execute(text("SET LOCAL statement_timeout = 0"))
        connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
        command.upgrade(_config(connection), "head")
        _create_statistics(connection)


def _create_statistics(connection: Connection) -> None:
    """Let the doctor read which statements cost most, where the server has that and the role may create it."""
    if connection.execute(STATISTICS_TO_CREATE).one_or_none() is None:
        return
    try:
        with connection.begin_nested():
            connection.execute(text("CREATE EXTENSION IF NOT EXISTS pg_stat_statements"))
    except DBAPIError as error:
        # Nothing else needs it, and the doctor says what to do.
        log.info("pg_stat_statements was not created: %s", str(error.orig).strip())


def revisions(database: Database) -> tuple[str | None, str | None]:
    """The schema's revision in the database (None: empty), and the one that this code needs."""
    with database.begin() as connection:
        current = MigrationContext.configure(connection).get_current_revision()
        return current, ScriptDirectory.from_config(_config(connection)).get_current_head()


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    return config
