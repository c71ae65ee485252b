"""A log of batches in Kafka, each in one transaction with the place that its source was read up to.

The place (the cursor) is committed as the metadata of a consumer group's offset, in the same transaction as the
records (KIP-98). So a crash leaves both or none, and who opens the log next reads on where the last one stopped.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from runtime.kafka import RECONNECT
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


class TransactionalLog:
    """Appends batches under one ``name``, its transactional id and group; the last process to open it owns it.

    Its calls run in a thread of its own, one after the other. After an error whether the batch is there is known
    only by ``open``, which settles what was under way.
    """

    def __init__(self, bootstrap: str, name: str, cursor_topic: str) -> None:
        self._bootstrap = bootstrap
        self._name = name
        #: Whose partition 0 the group's offset is kept under: any topic that exists.
        self._cursor_place = (cursor_topic, 0)
        self._producer: Producer | None = None
        self._group: Consumer | None = None
        self._executor = _thread(name)

    async def open(self) -> str | None:
        """Take the log over from whoever had it, and return the cursor of the last batch that is there.

        A transaction that was under way is ended first. None: there was never a batch.

        Raises:
            ServerUnreachable: Kafka is away.
        """
        return await self._run(self._open)

    async def append(self, records: Sequence[Outgoing], cursor: str) -> None:
        """Add the records and set the cursor, both or neither; returns once they are there.

        Raises:
            LogTaken: another process owns the log; nothing was added.
            ServerUnreachable: Kafka is away; ``open`` again to learn whether they were added.
        """
        await self._run(lambda: self._append(records, cursor))

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
        """Let go of both clients, in a thread that may wait for as long as they take to end."""
        clients = [self._producer, self._group]
        self._producer = self._group = None
        threading.Thread(target=clients.clear, name=f"{self._name}-discarded", daemon=True).start()

    def _open(self) -> str | None:
        if self._group is None:
            self._group = Consumer(
                {**RECONNECT, "bootstrap.servers": self._bootstrap, "group.id": self._name}
                | {"enable.auto.commit": False, "log_level": 3}
            )
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
        (place,) = self._group.committed([TopicPartition(*self._cursor_place)], timeout=OPEN_TIMEOUT_S)
        if place.error:
            raise KafkaException(place.error)
        return place.metadata or None

    def _append(self, records: Sequence[Outgoing], cursor: str) -> None:
        if self._producer is None or self._group is None:
            raise RuntimeError(f"{self._name} was not opened since its last error")
        producer, deadline_s = self._producer, time.monotonic() + APPEND_TIMEOUT_S
        producer.begin_transaction()
        for record in records:
            producer.produce(record.topic, record.value, record.key, headers=list(record.headers))
            producer.poll(0)
        # The offset itself means nothing; Kafka wants one.
        place = TopicPartition(*self._cursor_place, 0, cursor)
        producer.send_offsets_to_transaction([place], self._group.consumer_group_metadata(), APPEND_TIMEOUT_S)
        producer.commit_transaction(max(1.0, deadline_s - time.monotonic()))


def _thread(name: str) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, thread_name_prefix=name)
