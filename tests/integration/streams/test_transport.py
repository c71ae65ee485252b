"""What is known to go wrong with Faust, tried on a real Kafka: each test names the report."""

import asyncio
import os
import secrets
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from confluent_kafka import Producer
from faust.types import TP

from runtime.topic_admin import TopicAdmin
from schemas.topics import HOUR_MS, Topic
from streams.app import Dispatcher, Handle, bind, create_app
from streams.chunks import CHUNK_RECORDS, Chunk, Record
from streams.in_flight import MOST_RECORDS
from streams.transport import ChunkedConsumer
from tests.integration.streams.observing import LIMIT_S, lag

#: Everything of a test goes to one partition unless it says otherwise, so that its order is known.
PARTITION = 0


@pytest.fixture
def topic(kafka: str) -> Topic:
    """A topic of the test's own, whose name is its group's too."""
    made = Topic(f"headrace.test.{secrets.token_hex(4)}", "any", 3, HOUR_MS)
    TopicAdmin(kafka).create_missing([made])
    return made


@asynccontextmanager
async def reading(kafka: str, topic: Topic, handle: Handle) -> AsyncIterator[Dispatcher]:
    """An app that reads the topic until the end of the block."""
    app = create_app(kafka, topic.name)
    bind(app, topic, handle)
    await app.start()
    try:
        yield app
    finally:
        await app.stop()


async def until_true(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(LIMIT_S):
        # What is awaited is in Kafka or in Faust, which tell nobody.
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


def write(kafka: str, topic: Topic, count: int, partition: int = PARTITION, size_bytes: int = 0) -> None:
    producer = Producer({"bootstrap.servers": kafka})
    for number in range(count):
        producer.produce(topic.name, str(number).zfill(size_bytes).encode(), partition=partition)
    producer.flush(LIMIT_S)


def values(records: list[Record]) -> list[int]:
    return [int(record.value or b"-1") for record in records]


def test_every_record_comes_once_and_in_order_and_offsets_are_committed_to_the_end(kafka: str, topic: Topic) -> None:
    seen: list[Record] = []

    async def keep(chunk: Chunk) -> None:
        assert len({record.partition for record in chunk.records}) == 1
        assert len(chunk.records) <= CHUNK_RECORDS
        seen.extend(chunk.records)

    async def run() -> None:
        async with reading(kafka, topic, keep):
            await until_true(lambda: len(seen) >= 6_000)

    for partition in range(3):
        write(kafka, topic, 2_000, partition)
    asyncio.run(run())
    for partition in range(3):
        assert values([record for record in seen if record.partition == partition]) == list(range(2_000))
    assert lag(kafka, topic.name, topic.name) == 0


def test_a_commit_takes_what_was_acknowledged_while_another_commit_was_on_its_way(kafka: str, topic: Topic) -> None:
    """Faust's own commit ends with the one that it finds, and leaves what came after that one had begun."""
    seen: list[int] = []
    second_may_end = asyncio.Event()

    async def keep(chunk: Chunk) -> None:
        if seen:
            await second_may_end.wait()
        seen.append(len(chunk.records))

    async def run() -> None:
        async with reading(kafka, topic, keep) as app:
            assert isinstance(app.consumer, ChunkedConsumer)
            write(kafka, topic, 2 * CHUNK_RECORDS)
            await until_true(lambda: len(seen) == 1)
            early = asyncio.create_task(app.consumer.commit())
            second_may_end.set()
            # Without a pause: the broker's answer to the early commit must not be here before the second chunk.
            while len(seen) < 2 or app.consumer.in_flight(TP(topic.name, PARTITION)):  # noqa: ASYNC110
                await asyncio.sleep(0)
            await asyncio.gather(early, app.consumer.commit())
            assert await asyncio.to_thread(lag, kafka, topic.name, topic.name) == 0

    asyncio.run(run())


def test_an_agent_works_on_one_chunk_at_a_time(kafka: str, topic: Topic) -> None:
    """faust-streaming#606: with a concurrency above 1, work in flight is committed."""
    at_once, most, seen = 0, 0, 0

    async def count(chunk: Chunk) -> None:
        nonlocal at_once, most, seen
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0.01)
        at_once -= 1
        seen += len(chunk.records)

    async def run() -> None:
        async with reading(kafka, topic, count) as app:
            await until_true(lambda: seen >= 3_000)
            assert [agent.concurrency for agent in app.agents.values()] == [1]

    for partition in range(3):
        write(kafka, topic, 1_000, partition)
    asyncio.run(run())
    assert most == 1


def test_an_error_in_an_agent_ends_the_app_and_its_chunk_is_not_committed(kafka: str, topic: Topic) -> None:
    """faust-streaming#189, #315: an exception acknowledges its event."""
    done = 0

    async def fail_at_the_second(chunk: Chunk) -> None:
        nonlocal done
        if done:
            raise ZeroDivisionError("a bug")
        done = len(chunk.records)

    async def run() -> None:
        async with reading(kafka, topic, fail_at_the_second) as app:
            async with asyncio.timeout(LIMIT_S):
                await app.wait_until_stopped()
            assert app.crashed
            assert isinstance(app.crash_reason, ZeroDivisionError)

    write(kafka, topic, 2 * CHUNK_RECORDS)
    asyncio.run(run())
    assert lag(kafka, topic.name, topic.name) == 2 * CHUNK_RECORDS - done


def test_a_chunk_that_waits_holds_back_the_offsets_behind_it_and_bounds_what_is_read(kafka: str, topic: Topic) -> None:
    release: list[asyncio.Event] = []
    begun: list[Chunk] = []

    async def wait_at_the_first(chunk: Chunk) -> None:
        begun.append(chunk)
        if len(begun) == 1:
            release.append(asyncio.Event())
            await release[0].wait()

    async def run() -> None:
        async with reading(kafka, topic, wait_at_the_first) as app:
            await until_true(lambda: bool(release))
            await app.consumer.commit()
            assert lag(kafka, topic.name, topic.name) == count
            assert isinstance(app.consumer, ChunkedConsumer)
            # A fetch is 1 MiB, two chunks of these records.
            assert 1 <= app.consumer.in_flight(TP(topic.name, PARTITION)) <= MOST_RECORDS // CHUNK_RECORDS + 2
            release[0].set()
            await until_true(lambda: sum(len(chunk.records) for chunk in begun) == count)

    count = 4 * MOST_RECORDS
    write(kafka, topic, count, size_bytes=2_000)
    asyncio.run(run())
    assert lag(kafka, topic.name, topic.name) == 0


def test_a_stop_in_the_middle_of_a_chunk_leaves_it_to_the_next_start(kafka: str, topic: Topic) -> None:
    begun = asyncio.Event()
    again: list[Record] = []

    async def never(_chunk: Chunk) -> None:
        begun.set()
        await asyncio.Event().wait()

    async def keep(chunk: Chunk) -> None:
        again.extend(chunk.records)

    async def run() -> None:
        async with reading(kafka, topic, never):
            await begun.wait()
        assert lag(kafka, topic.name, topic.name) == 10
        async with reading(kafka, topic, keep):
            await until_true(lambda: len(again) >= 10)

    write(kafka, topic, 10)
    asyncio.run(run())
    assert values(again) == list(range(10))


def test_any_bytes_reach_the_agent_whatever_their_compression(kafka: str, topic: Topic) -> None:
    """robinhood/faust#586: a decode error ends the agent silently."""
    seen: list[Record] = []

    async def keep(chunk: Chunk) -> None:
        seen.extend(chunk.records)

    async def run() -> None:
        async with reading(kafka, topic, keep):
            await until_true(lambda: len(seen) >= 5)

    for codec in ("none", "gzip", "snappy", "lz4", "zstd"):
        producer = Producer({"bootstrap.servers": kafka, "compression.type": codec})
        value = None if codec == "none" else b"\xff\x00" + codec.encode() * 200
        producer.produce(topic.name, value, b"\xfe", PARTITION, headers=[("a", None), ("a", b"\xff")])
        producer.flush(LIMIT_S)
    asyncio.run(run())
    assert [record.value for record in seen] == [
        None, *(b"\xff\x00" + codec * 200 for codec in (b"gzip", b"snappy", b"lz4", b"zstd")),
    ]  # fmt: skip
    assert {record.key for record in seen} == {b"\xfe"}
    assert {tuple(record.headers) for record in seen} == {(("a", None), ("a", b"\xff"))}


@pytest.mark.skipif(shutil.which("kcat") is None, reason="needs kcat, the client that sends any bytes")
def test_a_header_whose_name_is_no_text_stops_nothing_and_loses_nothing(kafka: str, topic: Topic) -> None:
    seen: list[Record] = []

    async def keep(chunk: Chunk) -> None:
        seen.extend(chunk.records)

    async def run() -> None:
        async with reading(kafka, topic, keep):
            await until_true(lambda: len(seen) >= 32)

    write(kafka, topic, 10)
    kcat = [
        "kcat",
        "-b",
        kafka,
        "-P",
        "-t",
        topic.name,
        "-p",
        str(PARTITION),
        "-k",
        "bad",
        "-H",
        os.fsdecode(b"\xff\xfe=1"),
    ]
    subprocess.run(kcat, input=b"100", check=True)
    write(kafka, topic, 10)
    subprocess.run(kcat, input=b"101", check=True)
    write(kafka, topic, 10, partition=1)
    asyncio.run(run())
    there = values([record for record in seen if record.partition == PARTITION])
    assert there == [*range(10), 100, *range(10), 101]
    assert values([record for record in seen if record.partition == 1]) == list(range(10))
    assert {tuple(record.headers) for record in seen} == {()}
    assert lag(kafka, topic.name, topic.name) == 0


def test_what_a_client_aborted_is_not_read(kafka: str, topic: Topic) -> None:
    seen: list[Record] = []

    async def keep(chunk: Chunk) -> None:
        seen.extend(chunk.records)

    async def run() -> None:
        async with reading(kafka, topic, keep):
            await until_true(lambda: len(seen) >= 2)

    producer = Producer({"bootstrap.servers": kafka, "transactional.id": topic.name})
    producer.init_transactions(LIMIT_S)
    for value, end in (
        (b"1", producer.commit_transaction),
        (b"2", producer.abort_transaction),
        (b"3", producer.commit_transaction),
    ):
        producer.begin_transaction()
        producer.produce(topic.name, value, partition=PARTITION)
        producer.flush(LIMIT_S)
        end(LIMIT_S)
    asyncio.run(run())
    assert values(seen) == [1, 3]


def test_members_that_join_and_leave_at_any_moment_leave_no_record_out(kafka: str, topic: Topic) -> None:
    """Rebalances: a chunk may come to two members, but none comes to nobody."""
    seen: set[tuple[int, int]] = set()

    async def keep(chunk: Chunk) -> None:
        await asyncio.sleep(0.02)
        seen.update((record.partition, record.offset) for record in chunk.records)

    async def run() -> None:
        async with reading(kafka, topic, keep):
            for _ in range(3):
                await asyncio.to_thread(write_everywhere)
                async with reading(kafka, topic, keep):
                    await asyncio.to_thread(write_everywhere)
            await until_true(lambda: len(seen) >= 18_000)

    def write_everywhere() -> None:
        for partition in range(3):
            write(kafka, topic, 1_000, partition)

    asyncio.run(run())
    assert len(seen) == 18_000
    assert lag(kafka, topic.name, topic.name) == 0
