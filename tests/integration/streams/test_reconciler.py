"""Requests that the group's offsets have passed over, on real servers."""

import json
from contextlib import closing

from confluent_kafka import Consumer, TopicPartition

from runtime.database import Database
from runtime.kafka import Publisher
from schemas import topics
from schemas.topics import Kind
from streams.app import GROUP
from tests.acceptance.topics import forget_records
from tests.integration.streams.conftest import StartDispatcher
from tests.integration.streams.observing import end_of, states, tail, until

GENERATE = topics.REQUESTS[Kind.GENERATE]
JOBS = 50


def test_requests_whose_offsets_were_committed_without_them_are_admitted(
    broker: str, database: Database, publisher: Publisher, start_dispatcher: StartDispatcher
) -> None:
    start_dispatcher().stop()
    forget_records(broker)
    for number in range(JOBS):
        body = {"id": f"missed-{number}", "model": "example-base", "prompt": "1 May 2026 -> "}
        publisher.publish_raw(GENERATE.name, None, json.dumps(body).encode(), [])
    publisher.publish_raw(GENERATE.name, None, b"{", [])
    publisher.flush(30)
    with tail(broker, GENERATE.dead_letters) as letters:
        pass_over(broker)
        start_dispatcher(HEADRACE_RECONCILE_S="5")
        assert until(lambda: states(database, "missed-"), lambda found: found.get("queued") == JOBS) == {"queued": JOBS}
        (letter,) = letters.take(1)
        assert letter.value == b"{"
        assert letters.rest() == []


def pass_over(kafka: str) -> None:
    """Commit the ends of the request topics, as if everything had been read."""
    places = [
        TopicPartition(GENERATE.name, number, end_of(kafka, GENERATE.name, number))
        for number in range(GENERATE.partitions)
    ]
    with closing(Consumer({"bootstrap.servers": kafka, "group.id": GROUP})) as consumer:
        consumer.commit(offsets=places, asynchronous=False)
