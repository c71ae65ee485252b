"""Pools in a child that was forked."""

import asyncio
import os
from collections.abc import Callable

from runtime.pools import AsyncPool, Limits, Pool
from tests.unit.runtime.pools.fakes import Connection, Server

#: Exit status of a child in which all went as it should.
WELL = 7


def in_child(scenario: Callable[[], None]) -> int:
    """Run the scenario in a fork; 7 if nothing was wrong with it."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            scenario()
            status = WELL
        finally:
            os._exit(status)  # without pytest's own ending
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_child_opens_its_own_connections_and_leaves_the_parents_alone() -> None:
    server = Server()
    pool = Pool(server.connect, server.close, Limits(size=3, maintain_every_s=0.01))
    held, other = pool.borrow(), pool.borrow()
    pool.borrow().give_back()

    def scenario() -> None:
        inherited = list(server.open)
        with pool.borrow(timeout_s=0.0) as connection:
            assert connection not in inherited
        held.discard()
        other.give_back()
        assert (pool.stats().size, pool.stats().idle) == (1, 1)
        assert pool.close()
        assert server.open == inherited

    assert in_child(scenario) == WELL
    held.give_back()
    other.give_back()
    assert pool.stats().idle == 3
    assert pool.close()


def test_a_lock_that_another_thread_had_in_the_parent_does_not_stop_the_child() -> None:
    server = Server()
    pool = Pool(server.connect, server.close, Limits(maintain_every_s=None))

    def scenario() -> None:
        pool.borrow(timeout_s=0.0).give_back()

    with pool._lock:
        assert in_child(scenario) == WELL
    assert pool.close()


def test_a_closed_pool_stays_closed_in_a_child() -> None:
    server = Server()
    pool = Pool(server.connect, server.close, Limits(maintain_every_s=None))
    pool.close()

    def scenario() -> None:
        try:
            pool.borrow()
        except Exception as error:
            assert type(error).__name__ == "PoolClosed"  # noqa: PT017  # pytest is the parent's
        else:
            raise AssertionError

    assert in_child(scenario) == WELL


def test_a_child_has_an_event_loop_of_its_own() -> None:
    server = Server()

    async def connect() -> Connection:
        return server.connect()

    async def close(connection: Connection) -> None:
        server.close(connection)

    pool = AsyncPool(connect, close, Limits(maintain_every_s=None))

    async def use() -> None:
        async with pool.borrow() as connection:
            assert connection.number == len(server.open)

    asyncio.run(use())

    def scenario() -> None:
        inherited = list(server.open)
        asyncio.run(use())
        assert inherited[0].open
        assert pool.stats().created == 1

    assert in_child(scenario) == WELL
