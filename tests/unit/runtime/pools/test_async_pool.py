"""The pool for the tasks of one event loop."""

import asyncio
import gc
from collections.abc import Awaitable, Callable

import pytest

from runtime.pools import AsyncPool, Limits, PoolClosed, PoolMisused, PoolOverloaded, PoolTimeout
from tests.unit.runtime.pools.fakes import Clock, Connection, Server

#: For what has to happen at once; if it does not, the test fails.
SOON_S = 20.0
ONE = Limits(size=1, maintain_every_s=None)


class AsyncServer(Server):
    """As ``Server``; ``gate`` holds up what is opened and closed while it is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()
        self.gate.set()
        self.closed_gate = asyncio.Event()
        self.closed_gate.set()

    async def aconnect(self) -> Connection:
        await self.gate.wait()
        return self.connect()

    async def aclose(self, connection: Connection) -> None:
        await self.closed_gate.wait()
        self.close(connection)

    async def acheck(self, connection: Connection) -> bool:
        return self.check(connection)


def pool_of(server: AsyncServer, limits: Limits = ONE, clock: Clock | None = None) -> AsyncPool[Connection]:
    return AsyncPool(server.aconnect, server.aclose, limits, check=server.acheck, now_s=clock or Clock())


def run(scenario: Callable[[AsyncServer], Awaitable[None]]) -> None:
    async def scene() -> None:
        server = AsyncServer()
        await asyncio.wait_for(scenario(server), SOON_S)
        assert not server.open, "the scenario leaves connections open"

    asyncio.run(scene())


async def turns(count: int = 5) -> None:
    """Let all others run."""
    for _ in range(count):
        await asyncio.sleep(0)


async def until(seen: Callable[[], bool]) -> None:
    """Let the others run until it is so, and no step further."""
    while not seen():  # noqa: ASYNC110  # there is no event: what is waited for is a state of the pool
        await asyncio.sleep(0)


def test_the_connection_that_was_used_last_is_lent_first() -> None:
    async def scenario(server: AsyncServer) -> None:
        pool = pool_of(server, Limits(size=2))
        first, second = await pool.borrow(), await pool.borrow()
        first.give_back()
        second.give_back()
        async with pool.borrow() as connection:
            assert connection is second.connection
        assert await pool.close()

    run(scenario)


def test_who_waits_longest_is_served_first() -> None:
    async def scenario(server: AsyncServer) -> None:
        pool, served = pool_of(server), list[int]()

        async def borrower(number: int) -> None:
            async with pool.borrow():
                served.append(number)
                await asyncio.sleep(0)

        held = await pool.borrow()
        waiting = [asyncio.create_task(borrower(number)) for number in range(8)]
        await turns()
        held.give_back()
        await asyncio.gather(*waiting)
        assert served == list(range(8))
        assert await pool.close()

    run(scenario)


def test_a_borrow_that_gets_none_says_who_holds_what() -> None:
    async def scenario(server: AsyncServer) -> None:
        clock = Clock()
        pool = pool_of(server, Limits(size=1, stack_every=1, waiting=1, maintain_every_s=None), clock)

        async def hold() -> None:
            async with pool.borrow():
                await leave.wait()

        leave = asyncio.Event()
        holder = asyncio.create_task(hold(), name="holder")
        await turns()
        clock.now_s += 7
        with pytest.raises(PoolTimeout, match=r"(?s)1 in use.*task 'holder' holds a connection for 7 s.*in hold"):
            await pool.borrow(timeout_s=0.01)
        waiting = asyncio.ensure_future(pool.borrow())
        await turns()
        with pytest.raises(PoolOverloaded, match="lets 1 borrowers wait"):
            await pool.borrow()
        leave.set()
        (await waiting).give_back()
        await holder
        assert await pool.close()

    run(scenario)


def test_a_borrower_that_is_cancelled_while_it_waits_leaves_its_turn_to_the_next() -> None:
    async def scenario(server: AsyncServer) -> None:
        pool = pool_of(server)
        held = await pool.borrow()
        first, second = asyncio.ensure_future(pool.borrow()), asyncio.ensure_future(pool.borrow())
        await turns()
        first.cancel()
        await turns()
        held.give_back()
        (await second).give_back()
        assert pool.stats().waits.waited == 2
        assert await pool.close()

    run(scenario)


def test_a_borrower_that_is_cancelled_just_after_it_was_given_a_connection_passes_it_on() -> None:
    async def scenario(server: AsyncServer) -> None:
        pool = pool_of(server)
        held = await pool.borrow()
        first, second = asyncio.ensure_future(pool.borrow()), asyncio.ensure_future(pool.borrow())
        await turns()
        held.give_back()  # it is the first one's now, which has not run since
        first.cancel()
        assert (await second).connection is held.connection
        (await second).give_back()
        assert first.cancelled()
        assert await pool.close()

    run(scenario)


def test_a_borrower_that_is_cancelled_just_after_it_was_given_an_empty_place_passes_it_on() -> None:
    async def scenario(server: AsyncServer) -> None:
        pool = pool_of(server)
        held = await pool.borrow()
        first, second = asyncio.ensure_future(pool.borrow()), asyncio.ensure_future(pool.borrow())
        await turns()
        discarding = asyncio.create_task(held.discard())
        await until(lambda: pool.stats().waiting == 1)
        first.cancel()  # it has the place and has not run since
        (await second).give_back()
        await discarding
        assert first.cancelled()
        assert pool.stats().creations_failed == 0
        assert await pool.close()

    run(scenario)


def test_a_borrower_that_is_cancelled_while_its_connection_is_opened_makes_room() -> None:
    async def scenario(server: AsyncServer) -> None:
        pool = pool_of(server)
        server.gate.clear()
        first, second = asyncio.ensure_future(pool.borrow()), asyncio.ensure_future(pool.borrow())
        await turns()
        first.cancel()
        await turns()
        server.gate.set()
        (await second).give_back()
        assert pool.stats().creations_failed == 1
        assert await pool.close()

    run(scenario)


def test_a_borrower_that_is_cancelled_in_its_block_loses_the_connection_and_not_the_place() -> None:
    async def scenario(server: AsyncServer) -> None:
        pool = pool_of(server)

        async def use() -> None:
            async with pool.borrow():
                await asyncio.Event().wait()

        using = asyncio.create_task(use())
        await turns()
        server.closed_gate.clear()
        using.cancel()
        await turns()
        using.cancel()  # once more, while the connection is being closed
        await turns()
        assert using.done()
        waiting = asyncio.ensure_future(pool.borrow())
        await turns()
        assert not waiting.done(), "two are open where one may be"
        server.closed_gate.set()
        (await waiting).give_back()
        assert server.most_open == 1
        assert await pool.close()

    run(scenario)


def test_a_cancellation_while_a_dead_connection_is_replaced_closes_it_before_there_is_room() -> None:
    async def scenario(server: AsyncServer) -> None:
        clock = Clock()
        pool = pool_of(server, ONE, clock)
        async with pool.borrow() as connection:
            connection.good = False
        clock.now_s += 5
        server.closed_gate.clear()
        first = asyncio.ensure_future(pool.borrow())
        await turns()
        first.cancel()
        second = asyncio.ensure_future(pool.borrow())
        await turns()
        assert not second.done()
        server.closed_gate.set()
        (await second).give_back()
        assert server.most_open == 1
        assert pool.stats().closed == {"invalid": 1}
        assert await pool.close()

    run(scenario)


def test_a_failed_creation_gives_its_place_to_the_next_waiter() -> None:
    async def scenario(server: AsyncServer) -> None:
        pool = pool_of(server)
        server.gate.clear()
        server.refusals = 1
        first, second = asyncio.ensure_future(pool.borrow()), asyncio.ensure_future(pool.borrow())
        await turns()
        server.gate.set()
        (await second).give_back()
        assert isinstance(first.exception(), ConnectionRefusedError)
        assert await pool.close()

    run(scenario)


def test_a_dropped_borrow_is_closed_and_its_place_comes_free(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(server: AsyncServer) -> None:
        pool = pool_of(server)
        await pool.borrow()
        gc.collect()
        (await pool.borrow()).give_back()
        assert pool.stats().abandoned == 1
        assert server.most_open == 1
        assert await pool.close()

    run(scenario)
    assert "has dropped it without giving it back" in caplog.text


def test_a_borrow_that_is_held_too_long_is_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(server: AsyncServer) -> None:
        clock, leave = Clock(), asyncio.Event()
        pool = pool_of(server, Limits(overdue_s=60, maintain_every_s=None), clock)

        async def hold_on() -> None:
            async with pool.borrow():
                await leave.wait()

        holder = asyncio.create_task(hold_on(), name="holder")
        await turns()
        clock.now_s += 61
        await pool.maintain()
        await pool.maintain()
        leave.set()
        await holder
        assert await pool.close()

    run(scenario)
    (record,) = caplog.records
    assert "task 'holder' holds a connection for 61 s" in record.message
    assert "await leave.wait()" in record.message


def test_one_borrow_is_for_one_block() -> None:
    async def scenario(server: AsyncServer) -> None:
        pool = pool_of(server, Limits(size=2, maintain_every_s=None))
        borrow = pool.borrow()
        async with borrow:
            with pytest.raises(PoolMisused, match="entered twice"):
                await borrow
        assert (pool.stats().in_use, pool.stats().idle) == (0, 2)
        assert await pool.close()

    run(scenario)


def test_close_waits_for_what_is_lent_and_refuses_everybody_else() -> None:
    async def scenario(server: AsyncServer) -> None:
        pool = pool_of(server, Limits(size=1, maintain_every_s=0.001))
        lent = await pool.borrow()
        waiting = asyncio.ensure_future(pool.borrow())
        await turns()
        closing = asyncio.create_task(pool.close())
        with pytest.raises(PoolClosed):
            await waiting
        with pytest.raises(PoolClosed):
            await pool.borrow()
        assert not closing.done()
        lent.give_back()
        assert await closing

    run(scenario)


def test_a_pool_that_is_entered_is_warm() -> None:
    async def scenario(server: AsyncServer) -> None:
        async with pool_of(server, Limits(size=3, warm=2)) as pool:
            assert pool.stats().idle == 2

    run(scenario)


def test_what_is_idle_for_too_long_is_closed() -> None:
    async def scenario(server: AsyncServer) -> None:
        clock = Clock()
        pool = pool_of(server, Limits(size=2, idle_s=10, maintain_every_s=0.001), clock)
        (await pool.borrow()).give_back()
        clock.now_s += 11
        await until(lambda: not server.open)
        assert await pool.close()

    run(scenario)


def test_a_maintenance_that_is_cancelled_still_closes_all_that_it_took_away() -> None:
    async def scenario(server: AsyncServer) -> None:
        clock = Clock()
        pool = pool_of(server, Limits(size=3, idle_s=10, maintain_every_s=None), clock)
        for lent in [await pool.borrow() for _ in range(3)]:
            lent.give_back()
        clock.now_s += 11
        server.closed_gate.clear()
        maintaining = asyncio.create_task(pool.maintain())
        await turns()
        maintaining.cancel()
        await turns()
        assert maintaining.cancelled()
        server.closed_gate.set()
        assert await pool.close()
        assert pool.stats().closed == {"idle too long": 3}

    run(scenario)


def test_one_that_is_too_old_or_whose_check_fails_is_replaced() -> None:
    async def scenario(server: AsyncServer) -> None:
        async def check(_: Connection) -> bool:
            raise OSError("reset")

        clock = Clock()
        limits = Limits(age_s=100, idle_s=1e9, maintain_every_s=None)
        pool = AsyncPool(server.aconnect, server.aclose, limits, check=check, now_s=clock)
        for wait_s in (0, 2, 101):
            clock.now_s += wait_s
            async with pool.borrow():
                clock.now_s += 0.5
        assert pool.stats().closed == {"invalid": 1, "too old": 1}
        assert await pool.close()

    run(scenario)


def test_one_that_does_not_close_is_gone_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(server: AsyncServer) -> None:
        async def close(connection: Connection) -> None:
            server.close(connection)
            raise OSError("already reset")

        pool = AsyncPool(server.aconnect, close, ONE)
        await (await pool.borrow()).discard()
        (await pool.borrow(timeout_s=0.0)).give_back()
        assert await pool.close()

    run(scenario)
    assert "already reset" in caplog.text


def test_a_server_that_is_away_is_asked_again_with_the_next_maintenance(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(server: AsyncServer) -> None:
        server.refusals = 1
        async with pool_of(server, Limits(warm=1, maintain_every_s=None)) as pool:
            assert pool.stats().size == 0
            await pool.maintain()
            assert pool.stats().idle == 1

    run(scenario)
    assert "no connection to keep warm" in caplog.text


def test_a_pool_whose_keeper_is_stopped_while_it_opens_holds_no_place() -> None:
    async def scenario(server: AsyncServer) -> None:
        pool = pool_of(server, Limits(size=2, warm=2, maintain_every_s=60))
        (await pool.borrow()).give_back()
        server.gate.clear()
        await turns()
        assert pool.stats().in_use == 1  # the keeper's
        assert await pool.close()

    run(scenario)


def test_close_gives_up_in_time_and_what_comes_back_later_is_closed(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(server: AsyncServer) -> None:
        pool = pool_of(server)
        lent = await pool.borrow()
        assert not await pool.close(timeout_s=0.01)
        lent.give_back()
        assert await pool.close()

    run(scenario)
    assert "1 connections are still lent" in caplog.text


def test_another_event_loop_is_refused() -> None:
    server = Server()

    async def connect() -> Connection:
        return server.connect()

    async def close(connection: Connection) -> None:
        server.close(connection)

    pool = AsyncPool(connect, close, ONE)

    async def use() -> None:
        async with pool.borrow():
            pass

    asyncio.run(use())
    with pytest.raises(PoolMisused, match="another event loop"):
        asyncio.run(use())
