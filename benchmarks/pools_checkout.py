"""``pools.checkout``: borrow a connection that lies idle, and give it back, beside SQLAlchemy's pool."""

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from typing import Final

from sqlalchemy import Engine, create_engine, text
from sqlalchemy.pool import QueuePool

from benchmarks.figure import Bar, Figure, compare
from runtime.pools import AsyncPool, Limits, Pool
from runtime.pools.database import DatabasePool, WatchedQueuePool

NAME: Final = "pools.checkout"
CYCLES: Final = 20_000
RUNS: Final = 7
#: Many short turns: what is sought is a hundredth, and Postgres' turns on the same cores disturb the caches.
TURNS: Final = 61
TRANSACTIONS: Final = 100
#: The absolute bar, in microseconds: the peer is the bar itself there.
LIMIT_US: Final = 5.0


class Connection:
    """One that costs nothing to open, to reset and to close."""

    def rollback(self) -> None:
        """As a DB-API connection."""

    def close(self) -> None:
        """As a DB-API connection."""


def measure() -> Iterator[Figure]:
    """One thread, nobody else; then by the event loop; then what watching SQLAlchemy's pool costs a transaction.

    In processor time: nothing here waits for its turn, and other programs' turns are nobody's cost.
    """
    peer = QueuePool(Connection, reset_on_return=None)  # type: ignore[arg-type]
    ours = Pool(Connection, Connection.close, Limits())
    explicit, blocks, theirs = [], [], []
    for _ in range(RUNS):
        explicit.append(cycle_us(lambda: ours.borrow().give_back()))
        theirs.append(cycle_us(lambda: peer.connect().close()))
        blocks.append(block_us(ours))
    ours.close()
    at_most = Bar("at most", 1.0)
    name = "SQLAlchemy QueuePool, reset_on_return=None"
    yield compare(NAME, "µs of processor time a borrow and give_back", at_most, explicit, theirs, name)
    yield compare(NAME, "µs of processor time a with block", at_most, blocks, theirs, name)
    yield compare(NAME, "µs of processor time a with block", at_most, blocks, [LIMIT_US] * RUNS, "the bar of 5 µs")
    yield compare(
        NAME, "µs of processor time an async with block", at_most, [*async_blocks_us()], theirs, f"{name}, in threads"
    )
    yield from watched()


def cycle_us(cycle: Callable[[], None]) -> float:
    """Of one cycle, the loop's own time in it."""
    began_s = time.thread_time()
    for _ in range(CYCLES):
        cycle()
    return (time.thread_time() - began_s) / CYCLES * 1e6


def block_us(pool: Pool[Connection]) -> float:
    """Of one ``with`` block."""
    began_s = time.thread_time()
    for _ in range(CYCLES):
        with pool.borrow():
            pass
    return (time.thread_time() - began_s) / CYCLES * 1e6


def async_blocks_us() -> Iterator[float]:
    """Of one ``async with`` block, for each run."""

    async def connect() -> Connection:
        return Connection()

    async def close(connection: Connection) -> None:
        connection.close()

    async def blocks() -> list[float]:
        pool, runs = AsyncPool(connect, close), []
        for _ in range(RUNS):
            began_s = time.thread_time()
            for _ in range(CYCLES):
                async with pool.borrow():
                    pass
            runs.append((time.thread_time() - began_s) / CYCLES * 1e6)
        await pool.close()
        return runs

    yield from asyncio.run(blocks())


def watched() -> Iterator[Figure]:
    """A transaction of one statement, with SQLAlchemy's pool watched and bare."""
    url = os.environ["HEADRACE_DATABASE"]
    ours, bare = create_engine(url, poolclass=WatchedQueuePool), create_engine(url)
    DatabasePool(ours)
    transaction_us(ours)
    transaction_us(bare)
    with_statistics, without = [], []
    for _ in range(TURNS):
        with_statistics.append(transaction_us(ours))
        without.append(transaction_us(bare))
    ours.dispose()
    bare.dispose()
    yield compare(
        NAME,
        "µs of processor time a transaction, SELECT 1",
        Bar("at most", 1.05),
        with_statistics,
        without,
        "unwatched",
    )


def transaction_us(engine: Engine) -> float:
    """Of one transaction."""
    statement = text("SELECT 1")
    began_s = time.thread_time()
    for _ in range(TRANSACTIONS):
        with engine.begin() as connection:
            connection.execute(statement)
    return (time.thread_time() - began_s) / TRANSACTIONS * 1e6
