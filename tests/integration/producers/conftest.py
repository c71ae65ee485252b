"""A Kafka that has the topics, a client, and somebody who plays the platform."""

from collections.abc import Iterator

import pytest

from producers import Headrace
from runtime.topic_admin import TopicAdmin
from tests.integration.producers.stub import StubPlatform


@pytest.fixture(scope="session")
def topics_created(kafka: str) -> str:
    """Kafka's address, once the topics of the contract are there."""
    TopicAdmin(kafka).create_missing()
    return kafka


@pytest.fixture
def client(topics_created: str) -> Iterator[Headrace]:
    """A client without a database."""
    with Headrace.connect(topics_created) as connected:
        yield connected


@pytest.fixture(scope="session")
def platform(topics_created: str) -> Iterator[StubPlatform]:
    """The other side."""
    stub = StubPlatform(topics_created)
    yield stub
    stub.close()
