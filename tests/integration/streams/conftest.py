"""A dispatcher's process over real servers, and what its tests look at."""

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from runtime.database import Database
from runtime.database.migrate import upgrade
from runtime.kafka import Publisher
from runtime.topic_admin import TopicAdmin
from tests.acceptance.processes import HeadraceProcess
from tests.acceptance.topics import forget_records


class StartDispatcher(Protocol):
    """Starts a dispatcher and waits until it serves."""

    def __call__(self, **settings: str) -> HeadraceProcess:
        """``settings`` are environment variables."""


@pytest.fixture(scope="session")
def broker(kafka: str) -> str:
    """The address of a Kafka that has all topics, without what other folders' tests have written there."""
    TopicAdmin(kafka).create_missing()
    forget_records(kafka)
    return kafka


@pytest.fixture(scope="module")
def database(database_url: str) -> Iterator[Database]:
    """An empty database with the tables."""
    database = Database(database_url)
    upgrade(database)
    yield database
    database.close()


@pytest.fixture
def publisher(broker: str) -> Iterator[Publisher]:
    """A client's producer."""
    publisher = Publisher(broker, "test")
    yield publisher
    publisher.close()


@pytest.fixture
def start_dispatcher(broker: str, database: Database, tmp_path: Path) -> Iterator[StartDispatcher]:
    """Starts a dispatcher and waits until it serves; all are ended after the test."""
    started: list[HeadraceProcess] = []

    def start(**settings: str) -> HeadraceProcess:
        process = HeadraceProcess(
            f"dispatcher-{len(started)}",
            ["streams"],
            tmp_path,
            {
                "HEADRACE_KAFKA": broker,
                "HEADRACE_DATABASE": database.engine.url.render_as_string(hide_password=False),
                "HEADRACE_METRICS_PORT": "0",
                "HEADRACE_METRICS_INTERVAL_S": "1",
                "HEADRACE_LEASE_S": "3",
                # Its database is new, but the topics have other tests' requests, which it would find missing.
                "HEADRACE_RECONCILE_S": "3600",
                **settings,
            },
        )
        started.append(process)
        process.until_ready()
        return process

    yield start
    for process in started:
        # One that is killed keeps its partitions for its session's time, and the next test waiting.
        if process.is_running:
            process.stop()
        process.close()
