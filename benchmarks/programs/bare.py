"""``python -m benchmarks.programs.bare READER SOURCE TARGET RECORDS``: bare dispatch; prints its processor seconds.

Each record is read, decoded and validated, routed by its model, and produced; what was produced is acknowledged by
Kafka before its source counts as read (at least once). READER is how:

- ``chunked``: Headrace's Faust app, with its transport in chunks and its publisher
- ``confluent``: a loop around confluent-kafka's consumer and producer
- ``faust``: an agent of stock Faust, ``async for`` and ``topic.send``

Processor time is the whole process', threads included, from the first record to the last offset's commit.
"""

import asyncio
import logging
import os
import sys
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from typing import Any, Final
from uuid import uuid4
from zlib import crc32

import faust
from confluent_kafka import Consumer, KafkaError, Message, Producer

from benchmarks.records import PARTITIONS
from runtime import interpreter
from runtime.kafka import LINGER_MS, OnDelivery, Publisher
from schemas.codec import decode_request, encode
from schemas.topics import Kind, Topic
from streams.app import bind, create_app
from streams.chunks import Chunk
from streams.deliveries import insist

#: As in our chunks.
BATCH_RECORDS: Final = 500


def routed(value: bytes | None) -> tuple[int, bytes]:
    """What all of them do with a record: the partition that it goes to, and what is written there."""
    request = decode_request(Kind.GENERATE, value, {})
    return crc32(request.model.encode()) % PARTITIONS, encode(request)


class Clock:
    """Processor seconds since the first record."""

    def __init__(self, records: int) -> None:
        self._left = records
        self._begun_s: float | None = None

    def read(self, records: int) -> bool:
        """Note records that were read; True with the last."""
        if self._begun_s is None:
            self._begun_s = time.process_time()
        self._left -= records
        return self._left <= 0

    @property
    def seconds(self) -> float:
        """By now."""
        assert self._begun_s is not None
        return time.process_time() - self._begun_s


async def chunked(kafka: str, source: str, target: str, clock: Clock) -> None:
    """Headrace's."""
    app = create_app(kafka, f"bench-{uuid4().hex[:8]}")
    done = asyncio.Event()
    with closing(Publisher(kafka, "benchmark")) as publisher:

        def send(partition: int, value: bytes, on_delivery: OnDelivery) -> None:
            publisher.publish_raw(target, None, value, (), partition, on_delivery)

        async def handle(chunk: Chunk) -> None:
            last = clock.read(len(chunk.records))
            await insist([partial(send, *routed(record.value)) for record in chunk.records])
            if last:
                done.set()

        bind(app, Topic(source, "any", PARTITIONS, None), handle)
        # As the dispatcher does.
        interpreter.settle()
        await app.start()
        await done.wait()
        await app.stop()


def confluent(kafka: str, source: str, target: str, clock: Clock) -> None:
    """A loop as its authors recommend for at least once: offsets are stored after the flush, committed in the back."""
    consumer = Consumer(
        {
            "bootstrap.servers": kafka,
            "group.id": f"bench-{uuid4().hex[:8]}",
            "auto.offset.reset": "earliest",
            "enable.auto.offset.store": False,
            "auto.commit.interval.ms": 1_000,
        }
    )
    producer = Producer(
        {
            "bootstrap.servers": kafka,
            "enable.idempotence": True,
            "compression.type": "lz4",
            "linger.ms": LINGER_MS,
        }
    )

    def delivered(error: KafkaError | None, _message: Message) -> None:
        if error:
            raise RuntimeError(error.str())

    consumer.subscribe([source])
    last = False
    while not last:
        messages = consumer.consume(BATCH_RECORDS, timeout=0.1)
        if not messages:
            continue
        last = clock.read(len(messages))
        for message in messages:
            partition, value = routed(message.value())
            producer.produce(target, value, partition=partition, on_delivery=delivered)
        producer.flush()
        for message in messages:
            consumer.store_offsets(message)
    consumer.close()


async def stock(kafka: str, source: str, target: str, clock: Clock) -> None:
    """Stock Faust's."""
    app = faust.App(
        f"bench-{uuid4().hex[:8]}",
        broker=f"kafka://{kafka}",
        store="memory://",
        web_enabled=False,
        topic_disable_leader=True,
        topic_allow_declare=False,
        producer_linger_ms=LINGER_MS,
        producer_compression_type="lz4",
    )
    output = app.topic(target, value_serializer="raw")
    done = asyncio.Event()

    async def agent(stream: Any) -> None:
        async for value in stream:
            last = clock.read(1)
            partition, out = routed(value)
            await output.send(value=out, partition=partition)
            if last:
                done.set()

    app.agent(app.topic(source, value_serializer="raw"))(agent)
    await app.start()
    await done.wait()
    await app.stop()


READERS: Final[dict[str, Callable[[str, str, str, Clock], Any]]] = {
    "chunked": lambda *given: asyncio.run(chunked(*given)),
    "confluent": confluent,
    "faust": lambda *given: asyncio.run(stock(*given)),
}


if __name__ == "__main__":
    logging.basicConfig(level=logging.ERROR)
    reader, source_topic, target_topic, records = sys.argv[1:]
    measured = Clock(int(records))
    READERS[reader](os.environ["HEADRACE_KAFKA"], source_topic, target_topic, measured)
    print(measured.seconds, flush=True)
    # Faust's threads outlive its app.
    os._exit(0)
