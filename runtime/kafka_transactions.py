"""A log of batches in Kafka, each a transaction of one owner (KIP-98), and what became of the last ones.

Whether a batch is in the log, only the log says. A place in the source that is committed along with it is a second
thing to believe: after a coordinator's disk had filled up and its answer to a commit was "unknown error", a batch was
taken for published of which nobody saw the records (once, Kafka 4.3, 2026-11-24; not reproduced). So each batch comes
with where the topic's partitions ended before it, as the metadata of a consumer group's offset, and who opens the log
reads from there what has landed.
"""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeVar

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from msgspec import Struct

from runtime.kafka import RECONNECT
from runtime.kafka_consumers import asking_consumer
from runtime.kafka_stretch import Stretch
from schemas.codec import decode, encode
from schemas.errors import HeadraceError, ServerUnreachable

Answer = TypeVar("Answer")

#: How long the broker waits for a process that died in a transaction; a successor ends it at once.
TRANSACTION_TIMEOUT_MS: Final = 30_000
OPEN_TIMEOUT_S: Final = 10.0
#: One batch takes 20 ms. A client that has lost its coordinator on the way finds the next one slower than a new client.
APPEND_TIMEOUT_S: Final = 10.0
#: More than all the client's own bounds of one call together.
CALL_TIMEOUT_S: Final = 30.0
#: After a transaction the coordinator refuses the next one for the milliseconds that its markers take.
RETRY_BACKOFF_MS: Final = 5
#: What Kafka keeps with an offset unless it is told otherwise (``offset.metadata.max.bytes``).
METADATA_BYTES: Final = 4_096
#: What Kafka says to a producer whose name another one has taken (KIP-98, KIP-588).
FENCED: Final = frozenset({"_FENCED", "INVALID_PRODUCER_EPOCH", "PRODUCER_FENCED"})


class LogTaken(HeadraceError):
    """Another process has opened the log since."""

    code = "log_taken"


@dataclass(frozen=True)
class Outgoing:
    """A record as it will lie in Kafka."""

    topic: str
    key: bytes
    value: bytes
    headers: Sequence[tuple[str, bytes]]


class _Mark(Struct, frozen=True):
    """What is committed with a batch."""

    #: Where the batch came from.
    source: str
    #: Where each partition ended before it, at the latest; -1: not known.
    ends: tuple[int, ...]


class TransactionalLog:
    """Appends batches under one ``name``, its transactional id and group; the last process to open it owns it.

    Its calls run in a thread of its own, one after the other. After an error whether the batch is there is known
    only by ``open``, which settles what was under way, and ``landed``.
    """

    def __init__(self, bootstrap: str, name: str, topic: str) -> None:
        self._bootstrap = bootstrap
        self._name = name
        #: The one whose records are looked for. The group's offset is kept under its partition 0.
        self._topic = topic
        self._source = ""
        #: By partition: no record of the next batch can lie before it.
        self._ends: dict[int, int] = {}
        self._producer: Producer | None = None
        self._group: Consumer | None = None
        self._landed: Stretch | None = None
        self._executor = _thread(name)

    async def open(self, source: str) -> bool:
        """Take the log over from whoever had it, for batches from ``source``; whether the last one came from there.

        A transaction that was under way is ended first.

        Raises:
            ServerUnreachable: Kafka is away.
        """
        return await self._run(lambda: self._open(source))

    async def landed(self, since: datetime) -> AsyncIterator[Sequence[str]]:
        """The ids (``ce_id``) of what lies in the topic: at least all of the last batch, and of any after it.

        ``since``: where no batch from this source says where its partitions ended, they are read from this time on.

        Raises:
            ServerUnreachable: Kafka is away.
        """
        await self._run(lambda: self._seek(since))
        while (ids := await self._run(self._next_landed)) is not None:
            yield ids

    async def append(self, records: Sequence[Outgoing]) -> None:
        """Add the records, all or none; returns once they are there.

        Raises:
            LogTaken: another process owns the log; nothing was added.
            ServerUnreachable: Kafka is away; ``open`` again and see what has landed.
        """
        await self._run(lambda: self._append(records))

    def close(self) -> None:
        """Take no more calls; one that waits for Kafka is not waited for."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def _run(self, call: Callable[[], Answer]) -> Answer:
        answering = asyncio.get_running_loop().run_in_executor(self._executor, call)
        problem: KafkaError | None = None
        try:
            return await asyncio.wait_for(answering, CALL_TIMEOUT_S)
        except KafkaException as error:
            problem = error.args[0]
        except TimeoutError:
            # The client's own bounds did not hold. The thread is left to it: should it get on, its producer has
            # lost its name by then.
            self._executor.shutdown(wait=False, cancel_futures=True)
            self._executor = _thread(self._name)
        # Outside of the handler, where nothing refers to the producer through a traceback any more. Whatever it was,
        # a new producer under the same name ends what this one left.
        self._discard()
        if problem is None:
            raise ServerUnreachable("Kafka", self._bootstrap, f"{self._name}: no answer for {CALL_TIMEOUT_S:g} s")
        if problem.name() in FENCED:
            raise LogTaken(f"Another process writes {self._name} now.")
        raise ServerUnreachable("Kafka", self._bootstrap, f"{self._name}: {problem.str()}")

    def _discard(self) -> None:
        """Let go of all clients, in a thread that may wait for as long as they take to end."""
        clients = [self._producer, self._group, self._landed]
        self._producer = self._group = self._landed = None
        threading.Thread(target=clients.clear, name=f"{self._name}-discarded", daemon=True).start()

    def _open(self, source: str) -> bool:
        if self._group is None:
            self._group = asking_consumer(self._bootstrap, self._name, log_level=3)
        self._producer = Producer(
            {
                **RECONNECT,
                "bootstrap.servers": self._bootstrap,
                "transactional.id": self._name,
                "transaction.timeout.ms": TRANSACTION_TIMEOUT_MS,
                "partitioner": "murmur2_random",
                "compression.type": "lz4",
                "linger.ms": 0,
                "retry.backoff.ms": RETRY_BACKOFF_MS,
                "message.max.bytes": 8_388_608,
                "log_level": 3,
            }
        )
        self._producer.init_transactions(OPEN_TIMEOUT_S)
        (place,) = self._group.committed([TopicPartition(self._topic, 0)], timeout=OPEN_TIMEOUT_S)
        if place.error:
            raise KafkaException(place.error)
        mark = _read(place.metadata)
        is_same = mark is not None and mark.source == source
        # Of another source nobody knows when its events were added, if they were.
        self._ends = dict(enumerate(mark.ends)) if mark and is_same else {}
        self._source = source
        return is_same

    def _seek(self, since: datetime) -> None:
        known = {partition: end for partition, end in self._ends.items() if end >= 0}
        # Kept first, so that it is let go of with the others whatever comes of its questions.
        self._landed = Stretch(self._bootstrap)
        self._landed.begin(self._topic, known, since)

    def _next_landed(self) -> Sequence[str] | None:
        if self._landed is None:
            raise RuntimeError(f"{self._name} was not opened since its last error")
        messages = self._landed.next()
        if messages is None:
            self._ends, self._landed = dict(self._landed.ends), None
            return None
        return [event_id for message in messages if (event_id := _event_id(message))]

    def _append(self, records: Sequence[Outgoing]) -> None:
        if self._producer is None or self._group is None:
            raise RuntimeError(f"{self._name} was not opened since its last error")
        producer, deadline_s = self._producer, time.monotonic() + APPEND_TIMEOUT_S
        ends = dict(self._ends)

        def delivered(error: KafkaError | None, message: Message) -> None:
            partition, offset = message.partition(), message.offset()
            if error is None and message.topic() == self._topic and partition is not None and offset is not None:
                ends[partition] = max(ends.get(partition, 0), offset + 1)

        producer.begin_transaction()
        for record in records:
            producer.produce(
                record.topic, record.value, record.key, headers=list(record.headers), on_delivery=delivered
            )
            producer.poll(0)
        # The offset itself means nothing; Kafka wants one.
        place = TopicPartition(self._topic, 0, 0, self._mark())
        producer.send_offsets_to_transaction([place], self._group.consumer_group_metadata(), APPEND_TIMEOUT_S)
        producer.commit_transaction(max(1.0, deadline_s - time.monotonic()))
        # Should this call have been given up meanwhile, the log was opened anew and knows better.
        if self._producer is producer:
            self._ends = ends

    def _mark(self) -> str:
        ends = tuple(self._ends.get(partition, -1) for partition in range(max(self._ends, default=-1) + 1))
        mark = encode(_Mark(self._source, ends))
        # Of so many partitions the ends are not told: then time says where to look.
        return (mark if len(mark) <= METADATA_BYTES else encode(_Mark(self._source, ()))).decode()


def _read(metadata: str | None) -> _Mark | None:
    """The mark of the last batch; None if there was none, or an earlier release wrote it."""
    try:
        mark: _Mark = decode(_Mark, (metadata or "").encode())
    except msgspec.DecodeError:
        return None
    return mark


def _event_id(message: Message) -> str:
    headers = dict(message.headers() or [])
    found = headers.get("ce_id")
    return found.decode(errors="replace") if isinstance(found, bytes) else ""


def _thread(name: str) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, thread_name_prefix=name)
