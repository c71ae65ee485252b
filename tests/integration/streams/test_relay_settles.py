"""What a relay does with rows of which it is not known whether Kafka has them."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from runtime.database import Database, outcomes
from runtime.database import outbox as rows
from runtime.database.thread import DatabaseThread
from runtime.kafka_transactions import Outgoing, TransactionalLog
from runtime.monitoring import Metrics
from schemas import topics
from streams.instruments import Instruments
from streams.relay import NAME, Relay
from tests.integration.database.rows import admission, leased, settlement
from tests.integration.streams.observing import Tail, outbox, tail, until

TENANT = "default"


@pytest.fixture(autouse=True)
def _empty(database: Database) -> Iterator[None]:
    yield
    with database.begin() as connection:
        connection.execute(text("TRUNCATE jobs, outbox CASCADE"))


@pytest.fixture
def results(broker: str) -> Iterator[TransactionalLog]:
    """The log as a relay that is gone now had it."""
    with closing(TransactionalLog(broker, NAME, topics.RESULTS.name)) as log:
        yield log


def end(database: Database, *ids: str) -> None:
    """Jobs whose terminal events lie in the outbox."""
    with database.begin() as connection:
        items = leased(connection, *(admission(job_id) for job_id in ids))
        outcomes.settle(connection, [settlement(item) for item in items])


def event(job_id: str) -> Outgoing:
    """The result of a job, as far as a relay looks at it."""
    return Outgoing(topics.RESULTS.name, job_id.encode(), b"{}", [("ce_id", rows.result_id(TENANT, job_id).encode())])


def identity(database: Database) -> str:
    with database.begin() as connection:
        return rows.identity(connection)


def relayed(broker: str, database: Database, prefix: str) -> None:
    """Let a relay empty the outbox."""

    async def run() -> None:
        with (
            closing(TransactionalLog(broker, NAME, topics.RESULTS.name)) as log,
            closing(DatabaseThread(database)) as thread,
        ):
            relay = Relay(thread, log, Instruments(Metrics("test")))
            relay.assign(owner=True)
            running = asyncio.create_task(relay.run())
            assert await asyncio.to_thread(until, lambda: outbox(database, prefix), lambda left: left == 0) == 0
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running

    asyncio.run(run())


def copies(tailing: Tail) -> Counter[str]:
    return Counter((record.key or b"").decode() for record in tailing.rest())


def test_rows_are_published_though_the_mark_of_their_batch_is_there(
    broker: str, database: Database, results: TransactionalLog
) -> None:
    """As a broker left it that told one partition of a commit, and the others of an abort."""
    end(database, "mark-a", "mark-b")

    async def mark() -> None:
        await results.open(identity(database))
        await results.append([])

    asyncio.run(mark())
    with tail(broker, topics.RESULTS.name) as published:
        relayed(broker, database, "mark-")
        assert copies(published) == {"mark-a": 1, "mark-b": 1}


@pytest.mark.parametrize("prefix", ["had-", "restored-"])
def test_rows_that_kafka_has_are_not_published_again(
    broker: str, database: Database, results: TransactionalLog, prefix: str
) -> None:
    """Of the last batch its mark tells where to look. More can only wait when a backup was restored: then time does."""
    first, second, third = (f"{prefix}{letter}" for letter in "abc")
    end(database, first, second, third)
    is_restored = prefix == "restored-"

    async def publish() -> None:
        await results.open("another database" if is_restored else identity(database))
        async for _ in results.landed(datetime.now(UTC) - timedelta(hours=1)):
            pass
        for batch in ((first,), (second,)) if is_restored else ((first, second),):
            await results.append([event(job_id) for job_id in batch])

    with tail(broker, topics.RESULTS.name) as published:
        asyncio.run(publish())
        relayed(broker, database, prefix)
        assert copies(published) == {first: 1, second: 1, third: 1}
