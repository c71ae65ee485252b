"""A log whose batches and cursors are there together or not at all, on a real Kafka."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from confluent_kafka import Consumer

from runtime.kafka_transactions import LogTaken, Outgoing, TransactionalLog
from runtime.topic_admin import TopicAdmin
from schemas.errors import ServerUnreachable
from schemas.topics import HOUR_MS, Topic


@pytest.fixture
def topic(kafka: str) -> Topic:
    """A topic of the test's own, whose name is its log's too."""
    made = Topic(f"headrace.test.{secrets.token_hex(4)}", "any", 1, HOUR_MS)
    TopicAdmin(kafka).create_missing([made])
    return made


@asynccontextmanager
async def opened(kafka: str, topic: Topic) -> AsyncIterator[TransactionalLog]:
    log = TransactionalLog(kafka, topic.name, topic.name)
    try:
        await log.open()
        yield log
    finally:
        log.close()


def records(topic: Topic, *values: str) -> list[Outgoing]:
    return [Outgoing(topic.name, b"key", value.encode(), [("ce_id", value.encode())]) for value in values]


def committed(kafka: str, topic: Topic, count: int) -> list[str]:
    """The first ``count`` values that a reader of committed records gets, and what comes right after them."""
    consumer = Consumer(
        {"bootstrap.servers": kafka, "group.id": secrets.token_hex(4), "auto.offset.reset": "earliest"}
        | {"isolation.level": "read_committed", "enable.partition.eof": True}
    )
    consumer.subscribe([topic.name])
    values: list[str] = []
    while (message := consumer.poll(30)) is not None and not (message.error() and len(values) >= count):
        if not message.error():
            values.append((message.value() or b"").decode())
    consumer.close()
    return values


def test_a_new_log_has_no_cursor_and_an_old_one_its_last(kafka: str, topic: Topic) -> None:
    async def run() -> None:
        log = TransactionalLog(kafka, topic.name, topic.name)
        assert await log.open() is None
        await log.append(records(topic, "a", "b"), "first")
        await log.append(records(topic, "c"), "second")
        log.close()
        successor = TransactionalLog(kafka, topic.name, topic.name)
        assert await successor.open() == "second"
        successor.close()

    asyncio.run(run())
    assert committed(kafka, topic, 3) == ["a", "b", "c"]


def test_who_opens_the_log_shuts_the_last_one_out(kafka: str, topic: Topic) -> None:
    async def run() -> None:
        async with opened(kafka, topic) as old:
            await old.append(records(topic, "a"), "1")
            async with opened(kafka, topic) as new:
                with pytest.raises(LogTaken, match="Another process"):
                    await old.append(records(topic, "lost"), "2")
                await new.append(records(topic, "b"), "2")
            assert await old.open() == "2"
            await old.append(records(topic, "c"), "3")

    asyncio.run(run())
    assert committed(kafka, topic, 3) == ["a", "b", "c"]


def test_a_batch_that_kafka_refuses_leaves_nothing_and_the_log_goes_on(kafka: str, topic: Topic) -> None:
    async def run() -> None:
        async with opened(kafka, topic) as log:
            await log.append(records(topic, "a"), "1")
            too_large = [*records(topic, "lost"), Outgoing(topic.name, b"key", b"x" * 20_000_000, [])]
            with pytest.raises(ServerUnreachable):
                await log.append(too_large, "2")
            assert await log.open() == "1"
            await log.append(records(topic, "b"), "2")

    asyncio.run(run())
    assert committed(kafka, topic, 2) == ["a", "b"]


def test_a_server_that_is_away_is_told_so() -> None:
    async def run() -> None:
        log = TransactionalLog("127.0.0.1:1", "headrace.test.away", "any")
        with pytest.raises(ServerUnreachable, match=r"127\.0\.0\.1:1"):
            await log.open()
        log.close()

    asyncio.run(run())
