"""The polling thread: work records in, batches of jobs out to the event loop."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from runtime.kafka_consumers import assigned_consumer, next_messages
from schemas import topics
from schemas.codec import decode
from schemas.errors import ServerUnreachable
from schemas.events import STOP_TYPE, StopEvent, WorkEvent
from workers.metrics import WorkerMetrics

log = logging.getLogger(__name__)

#: How long the thread waits in the client, which bounds how fast it notices that it is to end.
POLL_S: Final = 0.1
#: Bounds the work of one turn of the event loop.
BATCH_RECORDS: Final = 500
#: How long the partition's end may take to be found, and the pause between two tries.
END_TIMEOUT_S: Final = 10.0
END_RETRY_S: Final = 0.2
NO_LEADER: Final = frozenset({KafkaError.LEADER_NOT_AVAILABLE, KafkaError.NOT_LEADER_FOR_PARTITION})


@dataclass(frozen=True)
class Taken:
    """Jobs for this worker, and what clients want of them; every record below offset ``position`` was read."""

    work: tuple[WorkEvent | StopEvent, ...]
    position: int


class WorkReader(Protocol):
    """Reads a worker's partition from the end that it had when the reader was opened."""

    @property
    def position(self) -> int:
        """Every record below this offset was read, or was there before."""

    async def read(self, take: Callable[[Taken], None]) -> None:
        """Call ``take`` in the loop's thread with what comes, until cancelled."""


class WorkConsumer:
    """Reads one partition of the work topic from its end.

    There is no group: the lease of the partition says who reads it. What lies before the end was
    meant for a predecessor, and the reaper queues it again when its leases run out.
    """

    def __init__(self, bootstrap: str, partition: int, worker_id: str, metrics: WorkerMetrics) -> None:
        """Find the partition's end.

        Raises:
            ServerUnreachable: Kafka does not answer, or has no such topic.
        """
        self._worker_id = worker_id
        self._metrics = metrics
        self._closed = threading.Event()
        self._consumer, self.position = _open_at_end(bootstrap, partition)

    def run(self, take: Callable[[Taken], None]) -> None:
        """Read until closed, in the calling thread; ``take`` must not block.

        What is read is handed on at once, even when every slot is taken: the dispatcher sends no
        more than it has credits for, and a thread that waits would be thrown out by Kafka.
        """
        try:
            while not self._closed.is_set():
                records = self._poll()
                if records:
                    take(self._read(records))
        finally:
            self._consumer.close()

    def close(self) -> None:
        """Let ``run`` return within ``POLL_S``."""
        self._closed.set()

    async def read(self, take: Callable[[Taken], None]) -> None:
        """Run in a thread of its own until cancelled; ``take`` is called in the loop's."""
        loop = asyncio.get_running_loop()
        polling = ThreadPoolExecutor(1, thread_name_prefix="kafka-work")

        def hand_on(taken: Taken) -> None:
            loop.call_soon_threadsafe(take, taken)

        reading = loop.run_in_executor(polling, self.run, hand_on)
        try:
            await asyncio.shield(reading)
        finally:
            self.close()
            await asyncio.wait([reading])
            polling.shutdown(wait=False)

    def _poll(self) -> list[Message]:
        return next_messages(self._consumer, BATCH_RECORDS, POLL_S)

    def _read(self, records: Sequence[Message]) -> Taken:
        work = tuple(event for event in map(self._decode, records) if event is not None)
        offsets = [record.offset() for record in records if record.error() is None]
        self.position = max([self.position, *(offset + 1 for offset in offsets if offset is not None)])
        return Taken(work, self.position)

    def _decode(self, record: Message) -> WorkEvent | StopEvent | None:
        error = record.error()
        if error is not None:
            log.warning("%s: %s", topics.WORK.name, error.str())
            return None
        event_type = StopEvent if _is_stop(record) else WorkEvent
        try:
            event: WorkEvent | StopEvent = decode(event_type, record.value() or b"")
        except msgspec.DecodeError as problem:
            self._metrics.malformed.inc()
            log.error("%s offset %s is skipped: %s", topics.WORK.name, record.offset(), problem)
            return None
        # A record for a worker that had this partition before: its lease was never ours.
        return event if event.lease.worker_id == self._worker_id else None


def _is_stop(record: Message) -> bool:
    headers = record.headers()
    return isinstance(headers, list) and ("ce_type", STOP_TYPE.encode()) in headers


async def open_partition(bootstrap: str, partition: int, worker_id: str, metrics: WorkerMetrics) -> WorkReader:
    """The reader of a partition of the work topic.

    Raises:
        ServerUnreachable: Kafka does not answer, or has no such topic.
    """
    return await asyncio.to_thread(WorkConsumer, bootstrap, partition, worker_id, metrics)


def _open_at_end(bootstrap: str, partition: int) -> tuple[Consumer, int]:
    consumer = assigned_consumer(bootstrap, topics.WORK.name, [partition], at="end")
    try:
        end = _end_offset(consumer, partition)
        # "End" is looked up again when fetching begins, which may be after the first heartbeat.
        consumer.assign([TopicPartition(topics.WORK.name, partition, end)])
    except KafkaException as error:
        consumer.close()
        raise ServerUnreachable("Kafka", bootstrap, f"{topics.WORK.name}: {error}") from error
    return consumer, end


def _end_offset(consumer: Consumer, partition: int) -> int:
    """The offset of the next record; waits for a partition that was made just now and has no leader yet."""
    last_try_s = time.monotonic() + END_TIMEOUT_S
    while True:
        try:
            watermarks = consumer.get_watermark_offsets(
                TopicPartition(topics.WORK.name, partition), timeout=END_TIMEOUT_S
            )
        except KafkaException as error:
            if error.args[0].code() not in NO_LEADER or time.monotonic() > last_try_s:
                raise
            time.sleep(END_RETRY_S)
        else:
            if watermarks is None:  # the binding's answer to a timeout
                raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
            return int(watermarks[1])
