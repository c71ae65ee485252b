"""The publisher and the assigned consumer, on a real Kafka."""

import secrets
from collections.abc import Iterator
from concurrent.futures import Future
from typing import cast

import pytest
from confluent_kafka import Message, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from runtime.kafka import Delivery, Publisher
from runtime.kafka_consumers import assigned_consumer
from schemas.codec import new_traceparent, trace_id_of
from schemas.requests import GenerateRequest
from schemas.topics import Topic

WAIT_S = 20.0


@pytest.fixture
def topic(kafka: str) -> Iterator[Topic]:
    found = Topic(f"test.{secrets.token_hex(4)}", "any", 3, 60_000)
    admin = AdminClient({"bootstrap.servers": kafka})
    for created in admin.create_topics([NewTopic(found.name, found.partitions, 1)]).values():
        created.result(WAIT_S)
    yield found
    for deleted in admin.delete_topics([found.name]).values():
        deleted.result(WAIT_S)


@pytest.fixture
def publisher(kafka: str) -> Iterator[Publisher]:
    publisher = Publisher(kafka, "test")
    yield publisher
    publisher.close()


def send(publisher: Publisher, topic: Topic, key: str, partition: int = -1) -> Delivery:
    delivered: Future[Delivery] = Future()
    publisher.publish(
        topic,
        GenerateRequest(model="m", prompt=key),
        key=key,
        event_id=f"id-{key}",
        traceparent=new_traceparent(),
        partition=partition,
        on_delivery=delivered.set_result,
    )
    return delivered.result(WAIT_S)


def read(kafka: str, delivery: Delivery) -> Message:
    consumer = assigned_consumer(kafka, delivery.topic, [delivery.partition], {delivery.partition: delivery.offset})
    try:
        message = consumer.poll(WAIT_S)
    finally:
        consumer.close()
    assert message is not None
    assert message.error() is None
    return message


def test_an_event_arrives_with_its_envelope(kafka: str, publisher: Publisher, topic: Topic) -> None:
    message = read(kafka, send(publisher, topic, "a"))
    headers = dict(cast(list[tuple[str, bytes]], message.headers() or []))
    assert message.key() == b"a"
    assert headers["ce_specversion"] == b"1.0"
    assert headers["ce_id"] == b"id-a"
    assert headers["ce_type"] == topic.name.encode()
    assert headers["ce_subject"] == b"a"
    assert headers["content-type"] == b"application/json"
    assert trace_id_of(headers["traceparent"].decode())


def test_the_delivery_tells_where_the_event_lies(publisher: Publisher, topic: Topic) -> None:
    first, second = (send(publisher, topic, "a", partition=2) for _ in range(2))
    assert (first.partition, second.offset - first.offset, first.error) == (2, 1, None)


@pytest.mark.parametrize("key", ["job-1", "job-2", "headrace", "ключ"])
def test_keys_are_partitioned_as_java_clients_do(publisher: Publisher, topic: Topic, key: str) -> None:
    assert send(publisher, topic, key).partition == murmur2(key.encode()) % topic.partitions


def test_the_hash_of_this_test_is_kafkas() -> None:
    # From Kafka's own UtilsTest.testMurmur2.
    vectors = {b"21": -973932308, b"foobar": -790332482, b"a-little-bit-long-string": -985981536}
    assert all(murmur2(key) == value & 0x7FFFFFFF for key, value in vectors.items())


def test_an_event_that_no_broker_takes_is_reported_as_failed(publisher: Publisher) -> None:
    absent = Topic(f"test.{secrets.token_hex(4)}", "any", 1, 60_000)
    assert send(publisher, absent, "a").error is not None


def murmur2(data: bytes) -> int:
    """Kafka's ``Utils.toPositive(Utils.murmur2(key))``, from Appleby's MurmurHash2 with Kafka's seed."""
    m, mask = 0x5BD1E995, 0xFFFFFFFF
    h = 0x9747B28C ^ len(data)
    body = len(data) // 4 * 4
    for start in range(0, body, 4):
        k = int.from_bytes(data[start : start + 4], "little") * m & mask
        k = (k ^ k >> 24) * m & mask
        h = (h * m & mask) ^ k
    if tail := data[body:]:
        h = (h ^ int.from_bytes(tail, "little")) * m & mask
    h = (h ^ h >> 13) * m & mask
    return (h ^ h >> 15) & 0x7FFFFFFF


def test_reading_from_an_offset_that_was_deleted_begins_with_the_oldest_record_left(
    kafka: str, publisher: Publisher, topic: Topic
) -> None:
    for number in range(3):
        send(publisher, topic, f"{number}", partition=0)
    admin = AdminClient({"bootstrap.servers": kafka})
    for deleted in admin.delete_records([TopicPartition(topic.name, 0, 2)]).values():
        deleted.result(WAIT_S)
    consumer = assigned_consumer(kafka, topic.name, [0], {0: 0})
    message = consumer.poll(WAIT_S)
    consumer.close()
    assert message is not None
    assert message.error() is None
    assert message.key() == b"2"
