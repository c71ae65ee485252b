"""Who was heard of in Kafka."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec
from confluent_kafka import OFFSET_END, Consumer, KafkaError, KafkaException, Message, TopicPartition

from producers.cli.doctor.finding import Finding, Health
from producers.cli.target import Target
from runtime.kafka_consumers import placed_consumer
from schemas.codec import decode
from schemas.events import Heartbeat
from schemas.topics import WORKERS

TIMEOUT_S: Final = 5.0
POLL_S: Final = 0.1
#: A worker sends a heartbeat every second.
HEARD_WITHIN: Final = timedelta(seconds=10)
LISTEN_S: Final = 3.0

Clock = Callable[[], datetime]


def examine_workers(target: Target) -> Finding:
    """The workers that live."""
    address = target.settings.kafka
    try:
        heard = sorted(heartbeats(address), key=lambda beat: beat.worker_id)
    except KafkaException as error:
        problem = f"{WORKERS.name} can't be read: {error.args[0].str()}"
        return Finding("workers", address, Health.UNREACHABLE, "", problem, target.start("KAFKA"))
    if not heard:
        problem = f"no worker was heard of within {HEARD_WITHIN.total_seconds():g} s"
        return Finding("workers", address, Health.WRONG, problem=problem, repair=target.run("workers"))
    versions = ", ".join(sorted({beat.version for beat in heard}))
    names = ", ".join(f"{beat.worker_id} ({beat.device})" for beat in heard)
    return Finding("workers", names, Health.OK, versions)


def heartbeats(bootstrap: str, clock: Clock = lambda: datetime.now(UTC)) -> list[Heartbeat]:
    """The last sign of life of each worker that lives and has not left.

    The broker stamps these records, and our clock need not be its own: where none is of now by both, what comes
    within ``LISTEN_S`` tells.

    Raises:
        KafkaException: the topic can't be read.
    """
    consumer = placed_consumer(bootstrap, [], report_ends=True)
    try:
        since_ms = int((clock() - HEARD_WITHIN).timestamp() * 1_000)
        (start,) = consumer.offsets_for_times([TopicPartition(WORKERS.name, 0, since_ms)], timeout=TIMEOUT_S)
        if start.offset < 0:
            start.offset = OFFSET_END
        consumer.assign([start])
        last = _recent(consumer, clock) or _coming(consumer)
    finally:
        consumer.close()
    return [beat for beat in last.values() if not beat.leaving]


def _recent(consumer: Consumer, clock: Clock) -> dict[str, Heartbeat]:
    """The last heartbeats up to the topic's end that are of now by our clock, by worker."""
    last: dict[str, Heartbeat] = {}
    deadline_s = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline_s:
        message = consumer.poll(POLL_S)
        if message is None:
            continue
        error = message.error()
        if error is not None and error.code() == KafkaError._PARTITION_EOF:
            break
        at = datetime.fromtimestamp(message.timestamp()[1] / 1_000, UTC)
        if abs(clock() - at) <= HEARD_WITHIN and (beat := _heartbeat(message)):
            last[beat.worker_id] = beat
    return last


def _coming(consumer: Consumer) -> dict[str, Heartbeat]:
    """The last heartbeats of those that come, by worker."""
    last: dict[str, Heartbeat] = {}
    deadline_s = time.monotonic() + LISTEN_S
    while time.monotonic() < deadline_s:
        message = consumer.poll(POLL_S)
        if message is not None and (beat := _heartbeat(message)):
            last[beat.worker_id] = beat
    return last


def _heartbeat(message: Message) -> Heartbeat | None:
    value = message.value()
    if message.error() is not None or not isinstance(value, bytes):
        return None
    try:
        beat: Heartbeat = decode(Heartbeat, value)
    except msgspec.DecodeError:
        # Not a worker of ours.
        return None
    return beat
