"""More threads than the pool has connections: all come to their turn, and all connections come back."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from threading import Barrier

import pytest
from sqlalchemy import text

from runtime.database import Database
from runtime.database.engine import POOL_SIZE

TRANSACTIONS = 20
PATIENCE_S = 60.0


@pytest.mark.parametrize("threads", [10, 100])
def test_threads_share_the_connections(database_url: str, threads: int) -> None:
    with closing(Database(database_url)) as database:
        with database.begin() as connection:
            connection.execute(text("CREATE TABLE IF NOT EXISTS noted (thread int, number int)"))
            connection.execute(text("TRUNCATE noted"))
        all_here = Barrier(threads, timeout=PATIENCE_S)

        def note(thread: int) -> None:
            all_here.wait()
            for number in range(TRANSACTIONS):
                with database.begin() as connection:
                    row = {"thread": thread, "number": number}
                    connection.execute(text("INSERT INTO noted VALUES (:thread, :number)"), row)

        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(note, range(threads)))

        with database.begin() as connection:
            found = connection.execute(text("SELECT count(*), count(DISTINCT (thread, number)) FROM noted")).one()
        assert tuple(found) == (threads * TRANSACTIONS,) * 2
        stats = database.pool.stats()
        assert (stats.in_use, stats.waiting) == (0, 0)
        assert stats.created - sum(stats.closed.values()) <= POOL_SIZE
