"""Dead letters that are sent again to a Kafka that goes away meanwhile."""

from collections.abc import Iterator
from concurrent.futures import Future
from datetime import UTC, datetime

from producers.cli.dlq import IN_FLIGHT, send_again
from producers.cli.letters import Listed
from producers.dead_letters import Letter, Position
from runtime.kafka import BufferFull
from schemas.dead_letters import DeadLetter
from schemas.errors import ServerUnreachable
from schemas.topics import REQUESTS, Kind

AWAY = ServerUnreachable("Kafka", "kafka:9092", "no answer")


def letter(offset: int, topic: str = REQUESTS[Kind.GENERATE].name) -> Letter:
    dead = DeadLetter(topic=topic, partition=0, offset=1, timestamp_ms=1, attempts=1, error_code="c", error_message="m")
    return Letter(Position(Kind.GENERATE, 0, offset), datetime.now(UTC), dead, None, b"{}", [])


def offsets(items: list[Listed]) -> list[int]:
    return [int(item.position.rpartition("-")[2]) for item in items]


class Kafka:
    """Acknowledges the first ``takes`` letters and no more; ``room`` of them wait at once."""

    def __init__(self, takes: int, room: int = IN_FLIGHT) -> None:
        self.takes, self.room, self.tried = takes, room, 0
        self.waiting = 0

    def send(self, letter: Letter) -> Future[None]:  # noqa: ARG002
        if self.waiting == self.room:
            self.waiting = 0
            raise BufferFull("kafka:9092", self.room)
        self.waiting += 1
        self.tried += 1
        sent: Future[None] = Future()
        if self.tried <= self.takes:
            sent.set_result(None)
        else:
            sent.set_exception(AWAY)
        return sent


def test_what_was_acknowledged_before_kafka_went_away_is_told() -> None:
    kafka = Kafka(takes=IN_FLIGHT + 3)
    replayed = send_again([letter(number) for number in range(5 * IN_FLIGHT)], kafka.send)

    assert offsets(replayed.sent) == list(range(IN_FLIGHT + 3))
    assert offsets(replayed.unacknowledged) == list(range(IN_FLIGHT + 3, 2 * IN_FLIGHT))
    assert replayed.error is AWAY
    assert kafka.tried == 2 * IN_FLIGHT


def test_what_was_sent_before_the_letters_could_not_be_read_on_is_told() -> None:
    def letters() -> Iterator[Letter]:
        yield letter(0)
        yield letter(1, topic="another")
        raise AWAY

    replayed = send_again(letters(), Kafka(takes=1).send)
    assert (offsets(replayed.sent), offsets(replayed.homeless), replayed.error) == ([0], [1], AWAY)


def test_large_letters_that_fill_the_buffer_wait_for_those_before_them() -> None:
    replayed = send_again([letter(number) for number in range(10)], Kafka(takes=10, room=3).send)
    assert (offsets(replayed.sent), replayed.error) == (list(range(10)), None)


def test_a_dry_run_sends_nothing() -> None:
    replayed = send_again([letter(0)], None)
    assert (offsets(replayed.sent), replayed.error) == ([0], None)
