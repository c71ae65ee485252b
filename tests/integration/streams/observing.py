"""What the tests of the dispatcher look at, each awaited up to a limit."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Final, TypeVar

from confluent_kafka import Consumer, TopicPartition
from sqlalchemy import text

from runtime.database import Database
from runtime.kafka_consumers import placed_consumer
from streams.app import GROUP

LIMIT_S: Final = 45.0
Value = TypeVar("Value")


@dataclass(frozen=True)
class Written:
    """One record of a topic."""

    key: bytes | None
    value: bytes | None
    headers: dict[str, bytes | str | None]


class Tail:
    """What is written to a topic after this was made."""

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer

    def take(self, count: int) -> list[Written]:
        """The next ``count`` records; fewer where they do not come in time."""
        taken: list[Written] = []
        deadline_s = time.monotonic() + LIMIT_S
        while len(taken) < count and time.monotonic() < deadline_s:
            taken += self._read(count - len(taken), 0.2)
        return taken

    def take_of(self, key: str, count: int) -> list[Written]:
        """The next ``count`` records of one job, whatever else comes."""
        taken: list[Written] = []
        deadline_s = time.monotonic() + LIMIT_S
        while len(taken) < count and time.monotonic() < deadline_s:
            taken += [record for record in self._read(100, 0.2) if record.key == key.encode()]
        return taken

    def rest(self) -> list[Written]:
        """All that lies there now and was not taken."""
        rest: list[Written] = []
        while more := self._read(10_000, 1.0):
            rest += more
        return rest

    def _read(self, most: int, wait_s: float) -> list[Written]:
        messages = [message for message in self._consumer.consume(most, wait_s) if not message.error()]
        return [Written(message.key(), message.value(), dict(message.headers() or [])) for message in messages]


@contextmanager
def tail(kafka: str, topic: str) -> Iterator[Tail]:
    """Read what is written to a topic from now on."""
    with closing(Consumer({"bootstrap.servers": kafka, "group.id": "headrace-test"})) as asking:
        ends = [TopicPartition(topic, number, end) for number, (_, end) in _offsets(asking, topic).items()]
    with closing(placed_consumer(kafka, ends)) as consumer:
        yield Tail(consumer)


def lag(kafka: str, topic: str, group: str = GROUP) -> int:
    """The records of a topic that a group has not committed."""
    with closing(Consumer({"bootstrap.servers": kafka, "group.id": group})) as asking:
        offsets = _offsets(asking, topic)
        committed = asking.committed([TopicPartition(topic, number) for number in offsets], timeout=10)
        return sum(offsets[at.partition][1] - max(at.offset, offsets[at.partition][0]) for at in committed)


def end_of(kafka: str, topic: str, partition: int) -> int:
    """The offset that the next record of a partition will get."""
    with closing(Consumer({"bootstrap.servers": kafka, "group.id": "headrace-test"})) as asking:
        return _offsets(asking, topic)[partition][1]


def until(look: Callable[[], Value], holds: Callable[[Value], bool]) -> Value:
    """What ``look`` finds as soon as ``holds`` is true of it; the last, where it never is."""
    pause = threading.Event()
    deadline_s = time.monotonic() + LIMIT_S
    while not holds(value := look()) and time.monotonic() < deadline_s:
        pause.wait(0.05)
    return value


def states(database: Database, prefix: str) -> dict[str, int]:
    """How many of the jobs whose id begins with ``prefix`` are in each state."""
    statement = text("SELECT state, count(*) FROM jobs WHERE id LIKE :prefix GROUP BY state")
    with database.begin() as connection:
        return {state: count for state, count in connection.execute(statement, {"prefix": f"{prefix}%"})}


def outbox(database: Database, prefix: str) -> int:
    """How many terminal events of such jobs wait for their delivery."""
    statement = text("SELECT count(*) FROM outbox WHERE job_id LIKE :prefix")
    with database.begin() as connection:
        return int(connection.execute(statement, {"prefix": f"{prefix}%"}).scalar_one())


def _offsets(asking: Consumer, topic: str) -> dict[int, tuple[int, int]]:
    """By partition, the first offset and the one that the next record will get."""
    partitions = asking.list_topics(topic, timeout=10).topics[topic].partitions
    found = {number: asking.get_watermark_offsets(TopicPartition(topic, number), 10) for number in partitions}
    return {number: (low, high) for number, (low, high) in found.items()}
