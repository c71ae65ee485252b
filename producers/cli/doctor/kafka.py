"""Kafka itself, its topics, and who was heard of in it."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec
from confluent_kafka import KafkaError, TopicPartition

from producers.cli.doctor.finding import Finding, Health
from producers.cli.target import Target
from producers.cli.topics import repair
from runtime.kafka import placed_consumer
from runtime.kafka_version import kafka_version
from runtime.topic_admin import TopicAdmin
from runtime.topic_differences import Difference
from schemas.codec import decode
from schemas.errors import ServerUnreachable
from schemas.events import Heartbeat
from schemas.topics import ALL, WORKERS

TIMEOUT_S: Final = 5.0
#: A worker sends a heartbeat every second.
HEARD_WITHIN: Final = timedelta(seconds=10)


def examine_kafka(target: Target) -> list[Finding]:
    """Kafka, and if it is there, its topics and the workers."""
    address = target.settings.kafka
    try:
        differences = TopicAdmin(address, TIMEOUT_S).differences()
    except ServerUnreachable as error:
        return [Finding("kafka", address, Health.UNREACHABLE, problem=error.reason, repair=target.start("KAFKA"))]
    kafka = Finding("kafka", address, Health.OK, _version(address))
    findings = [kafka, _topics(address, differences)]
    if any(item.topic == WORKERS and item.found is None for item in differences):
        return findings
    return [*findings, _workers(target, address)]


def _version(bootstrap: str) -> str:
    for address in bootstrap.split(","):
        try:
            return kafka_version(address.strip(), TIMEOUT_S)
        except ServerUnreachable:
            # Another broker answered before, or none would be asked.
            continue
    return "unknown"


def _topics(address: str, differences: Sequence[Difference]) -> Finding:
    if not differences:
        return Finding("topics", address, Health.OK, f"{len(ALL)} topics")
    first, more = differences[0], len(differences) - 1
    was = f"{first.setting} is {first.found}, not {first.wanted}" if first.found else "is missing"
    problem = f"{first.topic.name} {was}{f', and {more} more' if more else ''}"
    return Finding("topics", address, Health.WRONG, problem=problem, repair=repair(differences))


def _workers(target: Target, address: str) -> Finding:
    heard = sorted(heartbeats(address), key=lambda beat: beat.worker_id)
    if not heard:
        problem = f"no worker was heard of within {HEARD_WITHIN.total_seconds():g} s"
        return Finding("workers", address, Health.WRONG, problem=problem, repair=target.run("workers"))
    versions = ", ".join(sorted({beat.version for beat in heard}))
    names = ", ".join(f"{beat.worker_id} ({beat.device})" for beat in heard)
    return Finding("workers", names, Health.OK, versions)


def heartbeats(bootstrap: str) -> list[Heartbeat]:
    """The last sign of life of each worker that was heard of within ``HEARD_WITHIN`` and has not left."""
    since = datetime.now(UTC) - HEARD_WITHIN
    # The broker stamps these records, so this is its own clock's business alone.
    consumer = placed_consumer(bootstrap, [TopicPartition(WORKERS.name, 0, 0)], report_ends=True)
    last: dict[str, Heartbeat] = {}
    try:
        asked = TopicPartition(WORKERS.name, 0, int(since.timestamp() * 1_000))
        (start,) = consumer.offsets_for_times([asked], timeout=TIMEOUT_S)
        if start.offset < 0:
            return []
        consumer.assign([start])
        deadline_s = time.monotonic() + TIMEOUT_S
        while time.monotonic() < deadline_s:
            message = consumer.poll(0.1)
            if message is None:
                continue
            error = message.error()
            if error is not None and error.code() == KafkaError._PARTITION_EOF:
                break
            value = message.value()
            if error is None and isinstance(value, bytes):
                beat = _heartbeat(value)
                if beat:
                    last[beat.worker_id] = beat
    finally:
        consumer.close()
    return [beat for beat in last.values() if not beat.leaving]


def _heartbeat(value: bytes) -> Heartbeat | None:
    try:
        beat: Heartbeat = decode(Heartbeat, value)
    except msgspec.DecodeError:
        # Not a worker of ours.
        return None
    return beat
