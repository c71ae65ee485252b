"""A log whose batches are there whole or not at all, and which tells what has landed, on a real Kafka."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from runtime import kafka_stretch
from runtime.kafka_stretch import Stretch
from runtime.kafka_transactions import LogTaken, Outgoing, TransactionalLog
from runtime.topic_admin import TopicAdmin
from schemas.errors import ServerUnreachable
from schemas.topics import HOUR_MS, Topic

LONG_AGO = datetime.now(UTC) - timedelta(hours=1)


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
        await log.open("here")
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


async def landed(log: TransactionalLog, since: datetime = LONG_AGO) -> list[str]:
    return [event_id async for ids in log.landed(since) for event_id in ids]


def test_who_opens_a_log_sees_the_last_batch_of_its_source(kafka: str, topic: Topic) -> None:
    async def run() -> None:
        log = TransactionalLog(kafka, topic.name, topic.name)
        assert not await log.open("here")
        assert await landed(log) == []
        for batch in (("a", "b"), ("c",), ("d", "e")):
            await log.append(records(topic, *batch))
        log.close()
        successor = TransactionalLog(kafka, topic.name, topic.name)
        assert await successor.open("here")
        assert await landed(successor) == ["d", "e"]
        await successor.append(records(topic, "f"))
        assert await successor.open("here")
        assert await landed(successor) == ["f"]
        successor.close()

    asyncio.run(run())
    assert committed(kafka, topic, 6) == ["a", "b", "c", "d", "e", "f"]


def test_what_landed_is_read_by_time_where_the_last_batch_came_from_elsewhere(kafka: str, topic: Topic) -> None:
    async def run() -> None:
        async with opened(kafka, topic) as log:
            await log.append(records(topic, "a"))
            await log.append(records(topic, "b"))
            assert not await log.open("elsewhere")
            assert await landed(log) == ["a", "b"]
            assert not await log.open("elsewhere")
            assert await landed(log, datetime.now(UTC) + timedelta(hours=1)) == []

    asyncio.run(run())


def marked(kafka: str, topic: Topic, mark: str) -> None:
    """Put another mark in the place of the last batch's."""
    group = Consumer({"bootstrap.servers": kafka, "group.id": topic.name})
    group.commit(offsets=[TopicPartition(topic.name, 0, 0, mark)], asynchronous=False)
    group.close()


def test_a_mark_that_nobody_can_read_is_none(kafka: str, topic: Topic) -> None:
    """As an earlier release left one."""

    async def run() -> None:
        async with opened(kafka, topic) as log:
            await log.append(records(topic, "a"))
            marked(kafka, topic, '{"database":"here"}')
            assert not await log.open("here")
            assert await landed(log) == ["a"]

    asyncio.run(run())


def test_a_partition_that_ends_before_its_mark_is_read_from_its_beginning(kafka: str, topic: Topic) -> None:
    """It was made anew, or has lost records: nobody knows which."""

    async def run() -> None:
        async with opened(kafka, topic) as log:
            await log.append(records(topic, "a"))
            await log.append(records(topic, "b"))
            marked(kafka, topic, '{"source":"here","ends":[1000]}')
            assert await log.open("here")
            assert await landed(log) == ["a", "b"]

    asyncio.run(run())


def test_a_topic_that_is_not_there_is_none_of_which_nothing_landed(kafka: str) -> None:
    """Rows would be published twice if a broker that has lost its metadata were taken for an empty topic."""
    stretch = Stretch(kafka)
    with pytest.raises(KafkaException):
        stretch.begin(f"headrace.test.{secrets.token_hex(4)}", {}, LONG_AGO)


def test_what_lies_behind_an_open_transaction_is_not_taken_for_absent(
    kafka: str, topic: Topic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be published again, and come twice once that transaction is ended."""
    monkeypatch.setattr(kafka_stretch, "SILENCE_S", 2.0)
    stranger = Producer({"bootstrap.servers": kafka, "transactional.id": f"{topic.name}.stranger"})
    stranger.init_transactions(30)

    async def run() -> None:
        async with opened(kafka, topic) as log:
            await log.append(records(topic, "a"))
            stranger.begin_transaction()
            stranger.produce(topic.name, b"never", b"key")
            stranger.flush(30)
            await log.append(records(topic, "b"))
            assert await log.open("here")
            with pytest.raises(ServerUnreachable, match="a transaction may be open"):
                await landed(log)
            stranger.abort_transaction(30)
            assert await log.open("here")
            assert await landed(log) == ["b"]

    asyncio.run(run())


def test_who_opens_the_log_shuts_the_last_one_out(kafka: str, topic: Topic) -> None:
    async def run() -> None:
        async with opened(kafka, topic) as old:
            await old.append(records(topic, "a"))
            async with opened(kafka, topic) as new:
                with pytest.raises(LogTaken, match="Another process"):
                    await old.append(records(topic, "lost"))
                await new.append(records(topic, "b"))
            assert await old.open("here")
            # Who appended "b" had not looked, and so knew of no later end than the batch before.
            assert await landed(old) == ["a", "b"]
            await old.append(records(topic, "c"))

    asyncio.run(run())
    assert committed(kafka, topic, 3) == ["a", "b", "c"]


def test_a_batch_that_kafka_refuses_leaves_nothing_and_the_log_goes_on(kafka: str, topic: Topic) -> None:
    async def run() -> None:
        async with opened(kafka, topic) as log:
            await log.append(records(topic, "a"))
            too_large = [*records(topic, "lost"), Outgoing(topic.name, b"key", b"x" * 20_000_000, [])]
            with pytest.raises(ServerUnreachable):
                await log.append(too_large)
            assert await log.open("here")
            assert await landed(log) == ["a"]
            await log.append(records(topic, "b"))

    asyncio.run(run())
    assert committed(kafka, topic, 2) == ["a", "b"]


def test_a_server_that_is_away_is_told_so() -> None:
    async def run() -> None:
        log = TransactionalLog("127.0.0.1:1", "headrace.test.away", "any")
        with pytest.raises(ServerUnreachable, match=r"127\.0\.0\.1:1"):
            await log.open("here")
        log.close()

    asyncio.run(run())
