"""HTTP connections for tasks, to real servers."""

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable

import pytest

from runtime.pools import PoolClosed, PoolMisused, PoolTimeout
from runtime.pools.http import (
    AsyncHttpPool,
    HostBusy,
    HostDisconnected,
    HostTimeout,
    HttpLimits,
    InvalidHttpRequest,
)
from tests.integration.runtime.pools.http1 import HANG_S, Host
from tests.integration.runtime.pools.http2 import Host2

SOON_S = 60.0


def run(
    scenario: Callable[[AsyncHttpPool], Awaitable[None]],
    limits: HttpLimits | None = None,
    ssl_context: ssl.SSLContext | None = None,
) -> None:
    async def scene() -> None:
        pool = AsyncHttpPool(limits or HttpLimits(), ssl_context)
        try:
            await asyncio.wait_for(scenario(pool), SOON_S)
        finally:
            await pool.close(timeout_s=1.0)

    asyncio.run(scene())


async def get(pool: AsyncHttpPool, url: str, path: str = "/ok") -> bytes:
    async with pool.get_connection(url) as connection:
        return (await connection.get(path)).content


def test_a_connection_is_kept_alive_and_the_limit_of_its_host_holds(host: Host) -> None:
    async def scenario(pool: AsyncHttpPool) -> None:
        assert await asyncio.gather(*(get(pool, host.url) for _ in range(40))) == [b"/ok"] * 40
        assert pool.stats()[host.url].borrowed == 40

    run(scenario, HttpLimits(per_host=3))
    assert host.connections <= 3
    assert host.most_together <= 3


def test_a_host_that_hangs_holds_up_no_other(host: Host, other_host: Host) -> None:
    async def scenario(pool: AsyncHttpPool) -> None:
        hanging = [asyncio.create_task(get(pool, host.url, "/hang")) for _ in range(2)]
        for _ in hanging:
            await asyncio.to_thread(host.hung.acquire)
        assert await get(pool, other_host.url) == b"/ok"
        with pytest.raises(PoolTimeout):
            async with pool.get_connection(host.url, timeout_s=0.01):
                pass
        host.resume.set()
        assert await asyncio.gather(*hanging) == [b"at last"] * 2

    run(scenario, HttpLimits(per_host=2))


def test_a_borrower_that_is_cancelled_in_a_request_makes_room_for_the_next(host: Host) -> None:
    async def scenario(pool: AsyncHttpPool) -> None:
        hanging = asyncio.create_task(get(pool, host.url, "/hang"))
        await asyncio.to_thread(host.hung.acquire)
        hanging.cancel()
        assert await get(pool, host.url) == b"/ok"
        assert pool.stats()[host.url].in_use == 0

    run(scenario, HttpLimits(per_host=1))


def test_a_busy_host_is_asked_again_and_what_may_not_be_repeated_is_sent_once(host: Host) -> None:
    async def scenario(pool: AsyncHttpPool) -> None:
        host.script = [(503, "0"), (429, "")]
        assert await get(pool, host.url, "/scripted") == b"scripted"
        host.script = [(503, "0")]
        async with pool.get_connection(host.url) as connection:
            with pytest.raises(HostBusy):
                await connection.post("scripted")
            with pytest.raises(HostDisconnected):
                await connection.post("drop")
            assert (await connection.post("echo", json=[1])).json() == [1]

    run(scenario)
    assert (host.requests["GET /scripted"], host.requests["POST /scripted"], host.requests["POST /drop"]) == (3, 1, 1)


@pytest.mark.parametrize("path", ["/hang", "/drip"])
def test_a_request_ends_with_its_deadline(host: Host, path: str) -> None:
    async def scenario(pool: AsyncHttpPool) -> None:
        began_s = time.monotonic()
        async with pool.get_connection(host.url) as connection:
            with pytest.raises(HostTimeout):
                await connection.request("GET", path, deadline_s=0.2)
        assert time.monotonic() - began_s < HANG_S / 2

    run(scenario)
    assert host.requests[f"GET {path}"] == 1


def test_hosts_that_nobody_uses_are_closed_where_there_are_too_many(host: Host, other_host: Host) -> None:
    async def scenario(pool: AsyncHttpPool) -> None:
        async with pool.get_connection(host.url) as connection:
            await get(pool, other_host.url)
            assert (await connection.get("/ok")).content == b"/ok"
        await get(pool, other_host.url)
        await get(pool, host.url)
        assert set(pool.stats()) == {host.url}

    run(scenario, HttpLimits(hosts=1))


def test_hosts_that_nobody_uses_are_closed_once_by_all_who_come_at_once(caplog: pytest.LogCaptureFixture) -> None:
    async def use(pool: AsyncHttpPool, url: str, together: asyncio.Barrier) -> None:
        async with pool.get_connection(url):
            await together.wait()

    async def scenario(pool: AsyncHttpPool) -> None:
        for crowd in ("old", "new"):
            together = asyncio.Barrier(4)
            await asyncio.gather(*(use(pool, f"http://{crowd}{number}", together) for number in range(4)))
        await asyncio.gather(use(pool, "http://last", asyncio.Barrier(1)))
        assert set(pool.stats()) == {"http://last"}

    run(scenario, HttpLimits(hosts=1))
    assert not caplog.records  # nothing was lent any more


def test_what_is_borrowed_for_too_long_is_reported(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(pool: AsyncHttpPool) -> None:
        async with pool.get_connection(host.url):
            await pool.maintain()
            await pool.maintain()

    run(scenario, HttpLimits(overdue_s=0.0))
    assert [host.url in record.message for record in caplog.records] == [True]


def test_what_can_not_be_asked_is_said_at_once(host: Host) -> None:
    async def scenario(pool: AsyncHttpPool) -> None:
        with pytest.raises(InvalidHttpRequest):
            pool.get_connection("no url")
        async with pool.get_connection(host.url) as connection:
            pass
        with pytest.raises(PoolMisused):
            await connection.get("/ok")
        assert await pool.close()
        with pytest.raises(PoolClosed):
            await get(pool, host.url)

    run(scenario)


def test_a_connection_of_a_pool_that_did_not_wait_for_it_says_that_it_is_closed(host: Host) -> None:
    async def scenario(pool: AsyncHttpPool) -> None:
        async with pool.get_connection(host.url) as connection:
            assert not await pool.close(timeout_s=0.0)
            with pytest.raises(PoolClosed):
                await connection.get("/ok")

    run(scenario)


def test_http2_carries_all_requests_of_a_host_on_one_connection(
    host2: Host2, contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    async def scenario(pool: AsyncHttpPool) -> None:
        assert await get(pool, host2.url, "") == b"two"
        host2.together = 8  # it answers none before all have come
        assert await asyncio.gather(*(get(pool, host2.url, "") for _ in range(8))) == [b"two"] * 8

    run(scenario, HttpLimits(per_host=8), contexts[1])
    assert (host2.connections, host2.requests) == (1, 9)
