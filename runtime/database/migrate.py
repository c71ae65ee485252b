"""Bring the schema up to date; several processes may try at once."""

from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from runtime.database.engine import Database

MIGRATIONS: Final = Path(__file__).parent / "migrations"
#: Any number that no other program uses for an advisory lock of this database.
LOCK: Final = 0x48656164726163


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
