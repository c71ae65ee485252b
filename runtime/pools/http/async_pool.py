"""HTTP connections for the tasks of one event loop."""

import asyncio
import ssl
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Final

import httpx2
import stamina

from runtime.pools.async_pool import AsyncPool
from runtime.pools.errors import PoolClosed, PoolMisused
from runtime.pools.forks import tell_of_forks
from runtime.pools.http.errors import HostTimeout
from runtime.pools.http.exchange import (
    HttpLimits,
    Retries,
    base_of,
    below,
    checked,
    named,
    no_cookies,
    origin_of,
    repeatable,
    translated,
)
from runtime.pools.lent import AsyncLent
from runtime.pools.stats import PoolStats

DEFAULT_LIMITS: Final = HttpLimits()
#: For the places of a host that nobody uses: nobody is waited for, but their ends take some turns of the loop.
UNUSED_S: Final = 1.0


class AsyncHttpConnection:
    """As ``HttpConnection``, for a task."""

    def __init__(self, pool: "AsyncHttpPool", base: httpx2.URL, timeout_s: float | None) -> None:
        self._pool = pool
        self._base = base
        self._timeout_s = timeout_s
        self._host: _Host | None = None
        self._lent: AsyncLent[httpx2.AsyncClient] | None = None

    async def get(self, path: str = "", *, headers: Mapping[str, str] | None = None) -> httpx2.Response:
        """As ``request``."""
        return await self.request("GET", path, headers=headers)

    async def post(
        self, path: str = "", content: bytes = b"", *, json: object = None, headers: Mapping[str, str] | None = None
    ) -> httpx2.Response:
        """As ``request``; sent again only where it was not sent at all, or has an ``Idempotency-Key``."""
        return await self.request("POST", path, content, json=json, headers=headers)

    async def request(
        self,
        method: str,
        path: str = "",
        content: bytes = b"",
        *,
        json: object = None,
        headers: Mapping[str, str] | None = None,
        deadline_s: float | None = None,
    ) -> httpx2.Response:
        """The whole answer, whose status is below 400; within ``deadline_s``, repetitions included.

        Raises:
            HttpError: there is none; one of its kinds.
            PoolMisused: outside of the block in which the connection was lent (final).
            PoolClosed: the pool was closed meanwhile, and did not wait so long (final).
        """
        if self._lent is None:
            raise PoolMisused(
                f"The connection to {origin_of(self._base)} is used outside of its block. Borrow it with `async with`."
            )
        limits, given, now_s = self._pool.limits, dict(headers or {}), asyncio.get_running_loop().time
        ends_s = now_s() + (limits.deadline_s if deadline_s is None else deadline_s)
        retries = Retries(ends_s, now_s, repeatable=repeatable(method, given))
        request = self._lent.connection.build_request(
            method, below(self._base, path), content=content or None, json=json, headers=given
        )
        async for attempt in stamina.retry_context(retries, attempts=limits.attempts, timeout=None):
            with attempt:
                return await self._send(self._lent.connection, request, retries)
        raise AssertionError("the last attempt returns or raises")

    async def _send(self, client: httpx2.AsyncClient, request: httpx2.Request, retries: Retries) -> httpx2.Response:
        if client.is_closed:
            raise PoolClosed("http")
        where = named(request.method, request.url)
        left_s = retries.left_s
        if left_s <= 0:
            raise HostTimeout(where, "its deadline has passed")
        request.extensions = {"timeout": self._pool.limits.timeouts(left_s).as_dict()}
        try:
            # httpx2's own timeouts are for each part of an answer.
            async with asyncio.timeout(left_s):
                return checked(await client.send(request), where)
        except httpx2.HTTPError as error:
            raise translated(error, where) from error
        except TimeoutError as error:
            raise HostTimeout(where, f"no whole answer within {left_s:.3g} s") from error

    async def __aenter__(self) -> "AsyncHttpConnection":
        self._host, self._lent = await self._pool._lend(self._base, self._timeout_s)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        if self._host is not None and self._lent is not None:
            lent, self._lent = self._lent, None
            lent.give_back()
            self._pool._leave(self._host)


class AsyncHttpPool:
    """As ``HttpPool``, for the tasks of one event loop."""

    def __init__(self, limits: HttpLimits = DEFAULT_LIMITS, ssl_context: ssl.SSLContext | None = None) -> None:
        self.limits = limits
        self._ssl_context = ssl_context
        self._hosts: OrderedDict[str, _Host] = OrderedDict()
        self._inherited: list[object] = []
        self._closed = False
        tell_of_forks(self)

    def get_connection(self, base_url: str, timeout_s: float | None = None) -> AsyncHttpConnection:
        """``async with pool.get_connection("https://host/path") as connection: await connection.get("below")``.

        Raises:
            InvalidHttpRequest: at once: ``base_url`` is none (final).
            PoolTimeout, PoolOverloaded: on entering: the host's limit is used up (retryable).
            PoolClosed, PoolMisused: on entering: it is closed, or another event loop's (final).
        """
        return AsyncHttpConnection(self, base_of(base_url), timeout_s)

    def stats(self) -> dict[str, PoolStats]:
        """The borrowers of each host, by ``scheme://host:port``. ``size`` counts places, not sockets."""
        return {origin: host.places.stats() for origin, host in self._hosts.items()}

    async def maintain(self) -> None:
        """Report what is borrowed for too long."""
        for host in list(self._hosts.values()):
            await host.places.maintain()

    async def close(self, timeout_s: float = 10.0) -> bool:
        """Lend nothing any more, wait for what is lent, and close the connections; whether all came back in time."""
        self._closed = True
        hosts, self._hosts = list(self._hosts.values()), OrderedDict()
        return all(await asyncio.gather(*(host.close(timeout_s) for host in hosts)))

    def forked(self) -> None:
        """In a child: begin anew; the parent's sockets are kept as they are, for closing them would disturb it."""
        self._inherited.append(self._hosts)
        self._hosts = OrderedDict()

    async def _lend(self, base: httpx2.URL, timeout_s: float | None) -> "tuple[_Host, AsyncLent[httpx2.AsyncClient]]":
        if self._closed:
            raise PoolClosed("http")
        origin = origin_of(base)
        host = self._hosts.get(origin) or self._open(origin)
        self._hosts.move_to_end(origin)
        host.users += 1
        try:
            # Taken off the list in one go: while one is closed, other tasks come for theirs.
            if unused := list(self._unused()):
                await asyncio.shield(asyncio.gather(*(old.close(UNUSED_S) for old in unused)))
            return host, await host.places.borrow(timeout_s)
        except BaseException:
            self._leave(host)
            raise

    def _leave(self, host: "_Host") -> None:
        host.users -= 1

    def _open(self, origin: str) -> "_Host":
        if self._ssl_context is None and origin.startswith("https:"):
            self._ssl_context = httpx2.create_ssl_context()  # it reads all authorities' certificates: once
        host = self._hosts[origin] = _Host(origin, self.limits, self._ssl_context)
        return host

    def _unused(self) -> Iterator["_Host"]:
        for origin, host in list(self._hosts.items()):
            if len(self._hosts) <= self.limits.hosts:
                return
            if host.users == 0:
                yield self._hosts.pop(origin)


class _Host:
    """A client of one host, and the places of its borrowers; ``users`` have or want one."""

    def __init__(self, origin: str, limits: HttpLimits, ssl_context: ssl.SSLContext | None) -> None:
        # Without authorities: a plain host has no use for them, and reading them takes long.
        transport = httpx2.AsyncHTTPTransport(
            verify=ssl_context or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
            http2=limits.http2,
            limits=limits.of_client(),
        )
        self.users = 0
        self.client = httpx2.AsyncClient(transport=transport, cookies=no_cookies(), trust_env=False)
        self.places = AsyncPool(self._same_client, _keep_open, limits.of_host(), survives=_always, name=origin)

    async def close(self, timeout_s: float) -> bool:
        drained = await self.places.close(timeout_s)
        await self.client.aclose()
        return drained

    async def _same_client(self) -> httpx2.AsyncClient:
        return self.client


async def _keep_open(_client: httpx2.AsyncClient) -> None:
    """All places of a host have the same client, which goes with the host."""


def _always(_error: BaseException) -> bool:
    return True
