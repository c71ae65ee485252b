"""The request topics and their dead letters, read by offset with a client of its own."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from runtime.database.reconciling import Place
from runtime.kafka_consumers import asking_consumer, next_messages, placed_consumer
from schemas.errors import ServerUnreachable
from schemas.topics import DEAD_LETTERS, REQUESTS
from streams.app import GROUP
from streams.chunks import CHUNK_RECORDS, Record

Answer = TypeVar("Answer")

log = logging.getLogger(__name__)

TIMEOUT_S: Final = 10.0
POLL_S: Final = 1.0


@dataclass(frozen=True)
class _Read:
    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]


class KafkaRequestLog:
    """Reads in a thread of its own; open until closed."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="kafka-requests")

    async def ends(self) -> Mapping[Place, int]:
        """The offset that the next record of each partition will get; those of dead letters are asked for first.

        Raises:
            ServerUnreachable: Kafka is away.
        """
        return await self._run(self._ends)

    async def committed(self) -> Mapping[Place, int]:
        """Up to where the dispatchers' group has read each partition of the request topics; 0 where it has not.

        Raises:
            ServerUnreachable: Kafka is away.
        """
        return await self._run(self._committed)

    async def records(self, place: Place, start: int, end: int) -> AsyncIterator[Sequence[Record]]:
        """The records of a partition from ``start`` up to ``end``, in chunks; those that are gone are left out.

        Raises:
            ServerUnreachable: Kafka is away.
        """
        if start >= end:
            return
        consumer = await self._run(
            lambda: placed_consumer(self._bootstrap, [TopicPartition(*place, start)], report_ends=True)
        )
        try:
            more = True
            while more:
                records, more = await self._run(lambda: _next(consumer, end))
                if records:
                    yield records
        finally:
            # Not waited for: at a stop nobody takes calls any more.
            self._executor.submit(consumer.close)

    def close(self) -> None:
        """Take no more calls; one that waits for Kafka is not waited for."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def _run(self, call: Callable[[], Answer]) -> Answer:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, call)
        except KafkaException as error:
            raise ServerUnreachable("Kafka", self._bootstrap, str(error.args[0])) from error

    def _ends(self) -> Mapping[Place, int]:
        consumer = self._asking()
        names = [*(topic.name for topic in DEAD_LETTERS.values()), *(topic.name for topic in REQUESTS.values())]
        try:
            places = [(name, number) for name in names for number in _partitions(consumer, name)]
            return {place: _end(consumer, *place) for place in places}
        finally:
            consumer.close()

    def _committed(self) -> Mapping[Place, int]:
        consumer = self._asking()
        try:
            places = [
                TopicPartition(topic.name, number)
                for topic in REQUESTS.values()
                for number in _partitions(consumer, topic.name)
            ]
            found = consumer.committed(places, timeout=TIMEOUT_S)
            return {(place.topic, place.partition): max(place.offset, 0) for place in found}
        finally:
            consumer.close()

    def _asking(self) -> Consumer:
        """A client that asks as the dispatchers' group, and joins nothing."""
        return asking_consumer(self._bootstrap, GROUP)


def _partitions(consumer: Consumer, topic: str) -> list[int]:
    return sorted(consumer.list_topics(topic, timeout=TIMEOUT_S).topics[topic].partitions)


def _end(consumer: Consumer, topic: str, partition: int) -> int:
    marks = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=TIMEOUT_S)
    if marks is None:  # the binding's answer to a timeout
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
    return int(marks[1])


def _next(consumer: Consumer, end: int) -> tuple[list[Record], bool]:
    """The next records before ``end``, and whether there may be more."""
    records: list[Record] = []
    for message in next_messages(consumer, CHUNK_RECORDS, POLL_S):
        error = message.error()
        if error is not None:
            if error.code() == KafkaError._PARTITION_EOF:
                return records, False
            raise KafkaException(error)
        if (message.offset() or 0) >= end:
            return records, False
        records.append(_read(message))
    return records, True


def _read(message: Message) -> Record:
    return _Read(
        message.topic() or "",
        message.partition() or 0,
        message.offset() or 0,
        message.timestamp()[1],
        message.key(),
        message.value(),
        _headers(message),
    )


def _headers(message: Message) -> Sequence[tuple[str, bytes | None]]:
    try:
        headers: Iterable[tuple[str, str | bytes | None]] = message.headers() or []  # type: ignore[assignment]
    except (SystemError, UnicodeDecodeError):
        # A name that is no text: ``salvage`` leaves the headers out as well.
        return ()
    return [(name, value.encode() if isinstance(value, str) else value) for name, value in headers]
