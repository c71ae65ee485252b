"""Where a worker looks for tuned models."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import Connection

from runtime.cache import Cache
from runtime.database import Database, admissions, jobs, outcomes
from runtime.database.migrate import upgrade
from tests.integration.database.rows import admission, queued, settlement, tuned
from workers.tools import DatabaseModels


class Counted(Database):
    """Counts its transactions."""

    transactions = 0

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """As its class."""
        self.transactions += 1
        with super().begin() as connection:
            yield connection


@pytest.fixture
def database(database_url: str) -> Iterator[Counted]:
    made = Counted(database_url)
    upgrade(made)
    yield made
    made.close()


def test_a_tuned_model_is_found_as_soon_as_it_is_there_and_then_looked_up_once(database: Counted) -> None:
    models = DatabaseModels(database, Cache())
    model = "ft:example-base:dates:00000001"
    assert models.find("default", model) is None
    store(database, "a", model)
    before = database.transactions
    found = [models.find("default", model) for _ in range(5)]
    assert found[0] is not None
    assert found == [found[0]] * 5
    assert database.transactions == before + 1


def test_a_tuned_model_is_no_other_tenants(database: Counted) -> None:
    models = DatabaseModels(database, Cache())
    model = "ft:example-base:dates:00000002"
    store(database, "b", model)
    assert models.find("default", model)
    assert models.find("somebody-else", model) is None


def store(database: Database, job_id: str, model: str) -> None:
    """Have a job of the default tenant end with this model."""
    row = admission(job_id)
    with database.begin() as connection:
        admissions.admit(connection, [row])
        (item,) = jobs.lease(connection, [(queued(row), "worker-1")], 30.0)
        outcomes.settle(connection, [settlement(item, tuned(model))])
