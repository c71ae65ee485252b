"""The publisher of a process; see ``kafka_consumers`` for the other direction.

The idempotent producer can still duplicate when a partition's leader changes (librdkafka#4953), so
every event carries an id that is the same for each of its copies.
"""

import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final

from confluent_kafka import KafkaError, Message
from msgspec import Struct

from runtime.kafka_clock import WatchedProducer
from schemas.codec import Envelope, encode
from schemas.errors import ServerUnreachable
from schemas.topics import Topic

#: How long a broker outage may last before an unsent event is reported as failed.
DELIVERY_TIMEOUT_MS: Final = 60_000
#: Events wait this long for company in a batch; the smallest figure that still fills batches at load.
LINGER_MS: Final = 5
#: Events that may wait for the broker at once; one more is refused instead of blocking an event loop.
BUFFERED_EVENTS: Final = 200_000
#: And their keys, values and headers together, for events of a megabyte. librdkafka would hold a gigabyte.
BUFFERED_KB: Final = 262_144
MISSING_TOPIC_MS: Final = 5_000
#: The longest wait between two attempts to connect. librdkafka waits up to 10 s, and so a process would be back
#: long after its broker.
RECONNECT: Final = {"reconnect.backoff.max.ms": 1_000}
POLL_S: Final = 0.1
JOIN_S: Final = 1.0


class BufferFull(ServerUnreachable):
    """A process has published faster than Kafka takes it, or all the while that Kafka is away (retryable)."""

    def __init__(self, address: str, waiting: int, buffered_kb: int = BUFFERED_KB) -> None:
        limit = f"{BUFFERED_EVENTS:,} events" if waiting >= BUFFERED_EVENTS else f"{buffered_kb / 1024:g} MiB"
        super().__init__(
            "Kafka", address, f"{waiting:,} events wait for it already, and a process holds {limit} at most"
        )
        # It may well be there.
        self.args = (f"Kafka at {address} is away, or slower than events come: {self.reason}. Wait, and repeat this.",)


class Delivery(Struct, frozen=True, gc=False):
    """What became of one event: the offset where it lies, or the error."""

    topic: str
    partition: int
    offset: int
    error: str | None


OnDelivery = Callable[[Delivery], None]


class Publisher:
    """The producer of one process; every method may be called from any thread, and none waits but ``flush``.

    ``on_delivery`` runs in the publisher's own thread, must not block, and is called exactly once an event, but for
    what ``close`` gives up.
    """

    def __init__(
        self,
        bootstrap: str,
        source: str,
        linger_ms: float = LINGER_MS,
        delivery_timeout_ms: int = DELIVERY_TIMEOUT_MS,
        *,
        idempotent: bool = True,
        buffered_kb: int = BUFFERED_KB,
    ) -> None:
        self._bootstrap = bootstrap
        self._buffered_kb = buffered_kb
        self._source = f"headrace/{source}"
        self._producer = WatchedProducer(
            {
                **RECONNECT,
                "bootstrap.servers": bootstrap,
                "client.id": source,
                "enable.idempotence": idempotent,
                "acks": "all",
                # The Java clients' partitioner: every client finds a key in the same partition.
                "partitioner": "murmur2_random",
                "compression.type": "lz4",
                "linger.ms": linger_ms,
                "delivery.timeout.ms": delivery_timeout_ms,
                # Topics are created before any process starts, so one that is missing stays missing.
                "topic.metadata.propagation.max.ms": MISSING_TOPIC_MS,
                "queue.buffering.max.messages": BUFFERED_EVENTS,
                "queue.buffering.max.kbytes": buffered_kb,
                "message.max.bytes": 8_388_608,
                "log_level": 4,
            }
        )
        self._closed = threading.Event()
        self._poller = threading.Thread(target=self._poll, name="kafka-deliveries", daemon=True)
        self._poller.start()

    def publish(
        self,
        topic: Topic,
        event: object,
        *,
        key: str,
        event_id: str,
        traceparent: str,
        partition: int = -1,
        event_type: str | None = None,
        on_delivery: OnDelivery | None = None,
    ) -> None:
        """Send an event; ``key`` is also its CloudEvents subject, and its type is the topic's name unless given.

        Raises:
            BufferFull: the broker is away or slow, and too much waits for it.
        """
        envelope = Envelope(
            id=event_id,
            source=self._source,
            type=event_type or topic.name,
            subject=key,
            time=datetime.now(UTC),
            traceparent=traceparent,
        )
        self.publish_raw(topic.name, key.encode(), encode(event), envelope.headers(), partition, on_delivery)

    def publish_raw(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes | None]],
        partition: int = -1,
        on_delivery: OnDelivery | None = None,
    ) -> None:
        """Send bytes as they are; as ``publish`` in all else."""
        try:
            self._producer.produce(
                topic, value, key, partition, on_delivery=_reporter(on_delivery), headers=list(headers)
            )
        except BufferError as error:
            raise BufferFull(self._bootstrap, len(self._producer), self._buffered_kb) from error

    def flush(self, timeout_s: float) -> int:
        """Wait until everything published so far is delivered or failed; the number still waiting."""
        return self._producer.flush(timeout_s)

    def close(self, timeout_s: float = 10.0) -> None:
        """Flush, then stop the delivery thread: nobody hears what becomes of an event that is not settled by then."""
        self._producer.flush(timeout_s)
        self._closed.set()
        # It polls for longer where the clock was set back and nothing is left to be reported.
        self._poller.join(JOIN_S)

    def _poll(self) -> None:
        while not self._closed.is_set():
            self._producer.poll(POLL_S)


def _reporter(on_delivery: OnDelivery | None) -> Callable[[KafkaError | None, Message], None] | None:
    if on_delivery is None:
        return None

    def report(error: KafkaError | None, message: Message) -> None:
        topic, partition, offset = message.topic(), message.partition(), message.offset()
        on_delivery(
            Delivery(
                topic=topic or "",
                partition=-1 if partition is None else partition,
                offset=-1 if offset is None else offset,
                error=error.str() if error else None,
            )
        )

    return report
