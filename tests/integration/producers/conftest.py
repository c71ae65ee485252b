"""A Kafka that has the topics, a client, and somebody who plays the platform."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from producers import Headrace
from producers.cli import main
from runtime.topic_admin import TopicAdmin
from tests.integration.producers.stub import StubPlatform


@dataclass(frozen=True)
class Said:
    """What a command wrote, and its exit status."""

    status: int
    out: str
    err: str


Call = Callable[..., Said]


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


@pytest.fixture
def headrace(topics_created: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    """The command, with a Kafka and no database in its environment."""
    for name in ("HEADRACE_DATABASE", "HEADRACE_TENANT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HEADRACE_KAFKA", topics_created)

    def call(*arguments: str) -> Said:
        capsys.readouterr()
        status = main(arguments)
        captured = capsys.readouterr()
        return Said(status, captured.out, captured.err)

    return call
