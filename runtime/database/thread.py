"""One thread that runs the database's statements for an event loop, one transaction after the other."""

import asyncio
import logging
import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar, TypeVarTuple

from sqlalchemy import Connection

from runtime.database.engine import Database
from runtime.monitoring import OPERATIONS
from schemas.errors import ServerUnreachable

Answer = TypeVar("Answer")
Arguments = TypeVarTuple("Arguments")

log = logging.getLogger(__name__)

#: The first wait after a failed transaction, and the longest; each wait is double the one before.
BACKOFF_S: Final = 0.1
BACKOFF_LIMIT_S: Final = 2.0


class DatabaseThread:
    """Runs functions of ``runtime.database`` in transactions of their own, without blocking the loop.

    There is one thread, because two transactions at once that update the same jobs in different
    orders would wait for each other until Postgres ends one of them.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._closed = threading.Event()
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="database")

    async def run(self, work: Callable[[Connection, *Arguments], Answer], *arguments: *Arguments) -> Answer:
        """One transaction.

        Raises:
            ServerUnreachable: Postgres is away; whether the transaction was committed is not known.
        """

        return await asyncio.get_running_loop().run_in_executor(self._executor, self._transact, work, *arguments)

    async def insist(self, work: Callable[[Connection, *Arguments], Answer], *arguments: *Arguments) -> Answer:
        """One transaction, tried until Postgres answers: ``work`` has to bear being repeated."""
        backoff_s = BACKOFF_S
        while True:
            try:
                return await self.run(work, *arguments)
            except ServerUnreachable as error:
                log.warning("%s Trying again in %.1f s.", error, backoff_s)
            # Jitter, so that the workers do not all come back at once.
            await asyncio.sleep(backoff_s * random.uniform(0.5, 1.0))
            backoff_s = min(2 * backoff_s, BACKOFF_LIMIT_S)

    async def in_turn(self, work: Callable[[Connection, *Arguments], Answer], *arguments: *Arguments) -> Answer:
        """As ``insist``, and what is asked for later waits until Postgres has answered this.

        So the next transaction may be asked for before this one has ended, and the order is kept all the same.
        """

        def transactions() -> Answer:
            backoff_s = BACKOFF_S
            while True:
                try:
                    return self._transact(work, *arguments)
                except ServerUnreachable as error:
                    log.warning("%s Trying again in %.1f s.", error, backoff_s)
                    if self._closed.wait(backoff_s * random.uniform(0.5, 1.0)):
                        raise
                backoff_s = min(2 * backoff_s, BACKOFF_LIMIT_S)

        return await asyncio.get_running_loop().run_in_executor(self._executor, transactions)

    def _transact(self, work: Callable[[Connection, *Arguments], Answer], *arguments: *Arguments) -> Answer:
        """One transaction, measured with its commit under its own name: ``database.outbox.waiting``."""

        def transaction() -> Answer:
            with self._database.begin() as connection:
                return work(connection, *arguments)

        name = f"{work.__module__.removeprefix('runtime.')}.{work.__name__}"
        return OPERATIONS.of(name).call(transaction)

    def close(self) -> None:
        """Take no more work. What runs goes on: a thread that waits for a dead server can't be ended."""
        self._closed.set()
        self._executor.shutdown(wait=False, cancel_futures=True)
