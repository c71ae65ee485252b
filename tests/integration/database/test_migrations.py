"""The migrations make the tables that the code describes."""

import secrets
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from runtime.database import Database
from runtime.database.migrate import revisions, upgrade
from runtime.database.tables import metadata
from tests.servers import fresh_database


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


def test_the_doctor_can_read_the_statistics_of_a_migrated_database(database: Database) -> None:
    """Where the server keeps them, as that of the local stack does; a second time nothing is left to create."""
    upgrade(database)
    with database.begin() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM pg_stat_statements").scalar_one() > 0


def test_a_role_that_may_not_create_the_statistics_migrates_all_the_same(stack_env: Mapping[str, str]) -> None:
    with fresh_database(stack_env["HEADRACE_DATABASE"]) as url, closing(Database(url)) as admin:
        name = f"owner_{secrets.token_hex(6)}"
        with admin.begin() as connection:
            connection.exec_driver_sql(f"CREATE ROLE {name} LOGIN PASSWORD 'secret'")
            connection.exec_driver_sql(f"GRANT CREATE ON SCHEMA public TO {name}")
        own = admin.engine.url.set(username=name, password="secret").render_as_string(hide_password=False)
        with closing(Database(own)) as database:
            upgrade(database)
            current, wanted = revisions(database)
        assert current == wanted
        with admin.begin() as connection:
            connection.exec_driver_sql(f"DROP OWNED BY {name}")
            connection.exec_driver_sql(f"DROP ROLE {name}")
