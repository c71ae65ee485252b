"""Requests that could not be admitted: read where they lie, and sent again as they came.

A dead letter stays in its topic for as long as that keeps it; sending it again changes nothing there.
"""

import re
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from producers.errors import DeadLetterNotFound
from runtime.kafka import Delivery, Publisher
from runtime.kafka_consumers import placed_consumer
from schemas.codec import readable_id
from schemas.dead_letters import HEADERS, DeadLetter
from schemas.errors import ServerUnreachable, shown
from schemas.topics import DEAD_LETTERS, REQUESTS, Kind

#: How long a broker may say nothing before it counts as away.
SILENCE_S: Final = 10.0
POLL_S: Final = 0.2
_POSITION: Final = re.compile(rf"({'|'.join(Kind)})-([0-9]{{1,9}})-([0-9]{{1,18}})")
_PASSING: Final = frozenset({KafkaError._TRANSPORT, KafkaError._RESOLVE})


@dataclass(frozen=True, order=True)
class Position:
    """Where a dead letter lies; written ``generate-0-17``: kind, partition, offset."""

    kind: Kind
    partition: int
    offset: int

    @classmethod
    def parse(cls, text: str) -> "Position":
        """The position of this name.

        Raises:
            ValueError: it has another form.
        """
        found = _POSITION.fullmatch(text)
        if found is None:
            raise ValueError(f"{shown(text)} is no position; `headrace dlq ls` shows them, as generate-0-17.")
        return cls(Kind(found[1]), int(found[2]), int(found[3]))

    def __str__(self) -> str:
        return f"{self.kind}-{self.partition}-{self.offset}"


@dataclass(frozen=True)
class Letter:
    """One dead letter: the original's bytes, and why it was refused (None where its headers don't say)."""

    position: Position
    refused_at: datetime
    dead: DeadLetter | None
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]

    @property
    def job(self) -> tuple[str, str] | None:
        """The tenant and the id that the request names, where they can be read."""
        return readable_id(self.value)

    @property
    def original_headers(self) -> list[tuple[str, bytes | None]]:
        """The headers that the request came with, and how often it was refused: the next refusal counts on."""
        added = set(HEADERS.values()) - {HEADERS["attempts"]}
        return [(name, value) for name, value in self.headers if name not in added]


def read_letters(kafka: str, kinds: Sequence[Kind]) -> Iterator[Letter]:
    """Every dead letter of these kinds that was there when this was called, by partition and offset.

    Raises:
        ServerUnreachable: no broker answers.
    """
    topics = {DEAD_LETTERS[kind].name: kind for kind in kinds}
    with closing(placed_consumer(kafka, [])) as consumer:
        # All ends first: what is sent again meanwhile, and refused again, is none of these.
        bounds = [found for topic in topics for found in _bounds(kafka, consumer, topic)]
        for (topic, partition), (begin, end) in bounds:
            consumer.assign([TopicPartition(topic, partition, begin)])
            for message in _messages(kafka, consumer, begin, end):
                yield _letter(topics[topic], message)


def read_letter(kafka: str, position: Position) -> Letter:
    """The dead letter at this place.

    Raises:
        DeadLetterNotFound: there is none, or none any more.
        ServerUnreachable: no broker answers.
    """
    topic = DEAD_LETTERS[position.kind].name
    with closing(placed_consumer(kafka, [])) as consumer:
        bounds = dict(_bounds(kafka, consumer, topic))
        begin, end = bounds.get((topic, position.partition), (0, 0))
        if begin <= position.offset < end:
            consumer.assign([TopicPartition(topic, position.partition, position.offset)])
            for message in _messages(kafka, consumer, position.offset, end):
                if message.offset() == position.offset:
                    return _letter(position.kind, message)
                break
    raise DeadLetterNotFound(str(position))


def can_replay(letter: Letter) -> bool:
    """Whether the letter says where it came from, and requests are read there."""
    return letter.dead is not None and letter.dead.topic in {topic.name for topic in REQUESTS.values()}


def replay(publisher: Publisher, kafka: str, letter: Letter) -> Future[None]:
    """Send the original's key, value and headers to its topic; the future is done once Kafka has them.

    A request that was admitted meanwhile runs once, by its id. One that is refused again becomes a new dead
    letter, whose ``dlq.attempts`` is one more.
    """
    assert letter.dead is not None
    sent: Future[None] = Future()

    def settle(delivery: Delivery) -> None:
        if delivery.error:
            sent.set_exception(ServerUnreachable("Kafka", kafka, delivery.error))
        else:
            sent.set_result(None)

    publisher.publish_raw(letter.dead.topic, letter.key, letter.value, letter.original_headers, on_delivery=settle)
    return sent


def _bounds(kafka: str, consumer: Consumer, topic: str) -> Iterator[tuple[tuple[str, int], tuple[int, int]]]:
    """Each partition of a topic with the offset of its first record, and of the one that comes next."""
    try:
        for partition in sorted(consumer.list_topics(topic, timeout=SILENCE_S).topics[topic].partitions):
            found = consumer.get_watermark_offsets(TopicPartition(topic, partition), SILENCE_S)
            if found is None:  # the binding's answer to a timeout
                raise ServerUnreachable("Kafka", kafka, f"{topic} did not answer within {SILENCE_S:g} s")
            yield (topic, partition), (int(found[0]), int(found[1]))
    except KafkaException as error:
        raise ServerUnreachable("Kafka", kafka, error.args[0].str()) from error


def _messages(kafka: str, consumer: Consumer, position: int, end: int) -> Iterator[Message]:
    """What the assigned partition has from offset ``position`` on, before ``end``."""
    heard_s = time.monotonic()
    while position < end:
        message = consumer.poll(POLL_S)
        if message is None:
            # Deleted records and transactions' marks at the end are never given out: the position passes them.
            (place,) = consumer.position(consumer.assignment())
            position = max(position, place.offset)
            if time.monotonic() - heard_s > SILENCE_S:
                raise ServerUnreachable("Kafka", kafka, f"it gave nothing for {SILENCE_S:g} s")
            continue
        error = message.error()
        if error is not None:
            if error.code() not in _PASSING:
                raise ServerUnreachable("Kafka", kafka, error.str())
            continue
        heard_s, position = time.monotonic(), (message.offset() or 0) + 1
        if position <= end:
            yield message


def _letter(kind: Kind, message: Message) -> Letter:
    headers = message.headers()
    pairs = headers if isinstance(headers, list) else []
    given = [(name, value.encode() if isinstance(value, str) else value) for name, value in pairs]
    try:
        dead = DeadLetter.of_headers(given)
    except msgspec.ValidationError:
        dead = None
    return Letter(
        position=Position(kind, message.partition() or 0, message.offset() or 0),
        refused_at=datetime.fromtimestamp(message.timestamp()[1] / 1_000, UTC),
        dead=dead,
        key=message.key(),
        value=message.value(),
        headers=given,
    )
