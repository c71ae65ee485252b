"""A rig on the real servers, with the topics and tables in place."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.database import Database
from runtime.database.migrate import upgrade
from runtime.topic_admin import TopicAdmin
from tests.integration.workers.rig import Rig, open_rig


@pytest.fixture(scope="module")
def migrated_url(database_url: str) -> str:
    database = Database(database_url)
    upgrade(database)
    database.close()
    return database_url


@pytest.fixture(scope="module")
def topics_of(kafka: str) -> str:
    TopicAdmin(kafka).create_missing()
    return kafka


@pytest.fixture
def rig(topics_of: str, migrated_url: str, tmp_path: Path) -> Iterator[Rig]:
    with open_rig(topics_of, migrated_url, tmp_path) as rig:
        yield rig
