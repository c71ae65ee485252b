"""Results that are awaited while Kafka is away."""

from collections.abc import Iterator

import pytest

from producers.claims import Claims
from producers.cluster import Cluster
from producers.errors import ClientClosed
from producers.tail import ResultTail
from schemas.errors import ServerUnreachable

WAIT_S = 30.0


class Away(Cluster):
    """A cluster that was there when the client connected."""

    def __init__(self, error: Exception) -> None:
        self.bootstrap = "127.0.0.1:1"
        self.results_at_start = {0: 0}
        self.error = error

    def check(self) -> None:
        raise self.error


@pytest.fixture
def tail() -> Iterator[ResultTail]:
    made = ResultTail(Away(ServerUnreachable("Kafka", "127.0.0.1:1", "no answer")), "default", Claims(), silence_s=0.0)
    yield made
    made.close()


def awaited(tail: ResultTail, error: type[Exception]) -> None:
    waiting, may_be_past = tail.result("mine")
    assert not may_be_past
    with pytest.raises(error):
        waiting.result(WAIT_S)


def test_whoever_waits_is_told_that_kafka_is_away_and_may_ask_again(tail: ResultTail) -> None:
    tail.expect("mine")
    awaited(tail, ServerUnreachable)
    awaited(tail, ServerUnreachable)


def test_whatever_ends_the_reader_is_told_and_the_next_question_starts_another() -> None:
    tail = ResultTail(Away(RuntimeError("a bug")), "default", Claims(), silence_s=0.0)
    tail.expect("mine")
    awaited(tail, RuntimeError)
    awaited(tail, RuntimeError)
    tail.close()


def test_nobody_waits_after_the_end() -> None:
    quiet = ResultTail(Away(RuntimeError()), "default", Claims())
    quiet.expect("mine")
    waiting, _ = quiet.result("mine")
    quiet.close()

    with pytest.raises(ClientClosed):
        waiting.result(0)
    with pytest.raises(ClientClosed):
        quiet.result("mine")
