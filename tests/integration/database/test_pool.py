"""The statistics of the engine's pool."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import Engine
from sqlalchemy.exc import TimeoutError as NoneCameFree
from sqlalchemy.pool import ConnectionPoolEntry
from sqlalchemy.util.queue import Queue

from runtime.database import Database
from runtime.pools import PoolTimeout
from runtime.pools.database import DatabasePool, WatchedQueuePool


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """One connection of its own, one more at need, and little patience."""
    made = create_engine(database_url, poolclass=WatchedQueuePool, pool_size=1, max_overflow=1, pool_timeout=0.05)
    yield made
    made.dispose()


@pytest.fixture
def pool(engine: Engine) -> DatabasePool:
    return DatabasePool(engine)


def use(engine: Engine) -> None:
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))


def test_the_databases_pool_has_statistics(database_url: str) -> None:
    database = Database(database_url)
    with database.begin(), database.begin():
        stats = database.pool.stats()
        assert (stats.limit, stats.size, stats.in_use, stats.idle, stats.created) == (50, 2, 2, 0, 2)
        assert [held.holder for held in database.pool.holdings()] == ["thread 'MainThread'"] * 2
    stats = database.pool.stats()
    assert (stats.borrowed, stats.in_use, stats.idle, stats.closed) == (2, 0, 2, {})
    assert not database.pool.holdings()
    database.close()
    assert database.pool.stats().closed == {"pool closed": 2}
    assert database.pool.stats().borrowed == 2  # the book goes on with the next pool


def test_what_is_beyond_the_pools_size_is_surplus(engine: Engine, pool: DatabasePool) -> None:
    with engine.connect(), engine.connect():
        pass
    stats = pool.stats()
    assert (stats.created, stats.size, stats.closed) == (2, 1, {"surplus": 1})


def test_who_waits_in_vain_is_told_who_holds_what(engine: Engine, pool: DatabasePool) -> None:
    with ExitStack() as held:
        held.enter_context(engine.connect())
        held.enter_context(engine.connect())
        with pytest.raises(PoolTimeout, match=r"size 2 of 2, 2 in use.*thread 'MainThread' holds a connection"):
            use(engine)
    stats = pool.stats()
    assert (stats.timeouts, stats.waiting, stats.borrowed, stats.waits.waited) == (1, 0, 2, 1)
    assert 0.04 < stats.waits.longest_s < 30


def test_entries_that_are_dropped_without_a_connection_are_forgotten(engine: Engine, pool: DatabasePool) -> None:
    for _ in range(10):
        kept, surplus = engine.connect(), engine.connect()
        kept.close()
        surplus.invalidate()
    assert isinstance(engine.pool, WatchedQueuePool)
    assert len(engine.pool.book.uses) <= 3
    assert pool.stats().borrowed == 20


def test_who_loses_an_idle_connection_to_another_thread_waits_as_all_do(database_url: str) -> None:
    class Raced(Queue[ConnectionPoolEntry]):
        def qsize(self) -> int:
            return 1  # as it was, a moment before another thread took it

    class RacedPool(WatchedQueuePool):
        _queue_class = Raced

    engine = create_engine(database_url, poolclass=RacedPool, pool_size=1, max_overflow=0, pool_timeout=0.05)
    pool = DatabasePool(engine)
    with engine.connect(), pytest.raises(PoolTimeout, match="holds a connection"):
        use(engine)
    assert (pool.stats().timeouts, pool.stats().waits.waited) == (1, 1)
    engine.dispose()


def test_who_waits_in_vain_gets_what_sqlalchemys_own_pool_raises(engine: Engine) -> None:
    with engine.connect(), engine.connect(), pytest.raises(NoneCameFree) as refused:
        use(engine)
    assert "sqlalche.me" not in str(refused.value)


def test_waits_are_measured(database_url: str) -> None:
    engine = create_engine(database_url, poolclass=WatchedQueuePool, pool_size=1, max_overflow=0)
    pool = DatabasePool(engine)
    held = engine.connect()
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(use, engine)
        end_s = time.monotonic() + 20
        while pool.stats().waiting == 0:
            assert time.monotonic() < end_s
        held.close()
        waiting.result()
    stats = pool.stats()
    assert (stats.borrowed, stats.waits.waited, stats.waiting) == (2, 1, 0)
    assert stats.waits.total_s > 0
    engine.dispose()


def test_a_connection_that_the_server_closed_is_counted_as_broken(engine: Engine, pool: DatabasePool) -> None:
    with (
        engine.connect() as connection,
        pytest.raises(Exception, match=r"the connection unexpectedly|terminating connection"),
    ):
        connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
    assert pool.stats().closed == {"broken": 1}
    use(engine)
    assert (pool.stats().created, pool.stats().in_use) == (2, 0)


def test_one_that_is_found_dead_before_it_is_used_is_counted_as_invalid(engine: Engine, database_url: str) -> None:
    careful = create_engine(database_url, poolclass=WatchedQueuePool, pool_pre_ping=True)
    pool = DatabasePool(careful)
    with careful.connect() as connection:
        pid = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
    with engine.connect() as connection:
        connection.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})
    use(careful)
    assert pool.stats().closed == {"invalid": 1}
    careful.dispose()


def test_one_that_is_too_old_is_counted_so(database_url: str) -> None:
    engine = create_engine(database_url, poolclass=WatchedQueuePool, pool_recycle=0)
    pool = DatabasePool(engine)
    use(engine)
    use(engine)
    assert set(pool.stats().closed) == {"too old"}
    engine.dispose()


def test_a_failed_connection_is_held_by_nobody() -> None:
    engine = create_engine("postgresql+psycopg2://nobody@127.0.0.1:1/none", poolclass=WatchedQueuePool)
    pool = DatabasePool(engine)
    with pytest.raises(Exception, match="Connection refused"):
        use(engine)
    assert (pool.stats().in_use, pool.stats().borrowed) == (0, 0)
    assert not pool.holdings()
