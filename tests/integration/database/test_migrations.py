"""The migrations make the tables that the code describes."""

from concurrent.futures import ThreadPoolExecutor

from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from runtime.database import Database
from runtime.database.migrate import revisions, upgrade
from runtime.database.tables import metadata


def test_the_migrated_schema_is_the_described_one(database: Database) -> None:
    with database.begin() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_upgrading_again_changes_nothing(database: Database) -> None:
    upgrade(database)
    current, wanted = revisions(database)
    assert current == wanted is not None


def test_processes_may_upgrade_at_once(database: Database) -> None:
    with database.begin() as connection:
        metadata.drop_all(connection)
        connection.exec_driver_sql("DROP TABLE alembic_version")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(upgrade, [database] * 4))
    assert len(set(revisions(database))) == 1
