"""HTTP connections for threads."""

import ssl
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Final

import httpx2
import stamina

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
from runtime.pools.lent import Lent
from runtime.pools.pool import Pool
from runtime.pools.stats import PoolStats

DEFAULT_LIMITS: Final = HttpLimits()
#: Under which a request carries the moment at which its answer has to be there.
ENDS_S: Final = "headrace.ends_s"


class HttpConnection:
    """One of a host's places, for the time of its block, and requests below a base URL: one at a time.

    It is no socket: under it are the connections that all borrowers of the host share, HTTP/2 where the host speaks
    it. Redirects are not followed, for they may lead to another host; cookies are not kept; proxies are not used.
    """

    def __init__(self, pool: "HttpPool", base: httpx2.URL, timeout_s: float | None) -> None:
        self._pool = pool
        self._base = base
        self._timeout_s = timeout_s
        self._host: _Host | None = None
        self._lent: Lent[httpx2.Client] | None = None

    def get(self, path: str = "", *, headers: Mapping[str, str] | None = None) -> httpx2.Response:
        """As ``request``."""
        return self.request("GET", path, headers=headers)

    def post(
        self, path: str = "", content: bytes = b"", *, json: object = None, headers: Mapping[str, str] | None = None
    ) -> httpx2.Response:
        """As ``request``; sent again only where it was not sent at all, or has an ``Idempotency-Key``."""
        return self.request("POST", path, content, json=json, headers=headers)

    def request(
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

        The deadline is looked at between the parts of an answer, so one that drips may take up to ``silence_s`` more.

        Raises:
            HttpError: there is none; one of its kinds.
            PoolMisused: outside of the block in which the connection was lent (final).
            PoolClosed: the pool was closed meanwhile, and did not wait so long (final).
        """
        if self._lent is None:
            raise PoolMisused(
                f"The connection to {origin_of(self._base)} is used outside of its block. Borrow it with `with`."
            )
        limits, given = self._pool.limits, dict(headers or {})
        ends_s = time.monotonic() + (limits.deadline_s if deadline_s is None else deadline_s)
        retries = Retries(ends_s, time.monotonic, repeatable=repeatable(method, given))
        request = self._lent.connection.build_request(
            method, below(self._base, path), content=content or None, json=json, headers=given
        )
        for attempt in stamina.retry_context(retries, attempts=limits.attempts, timeout=None):
            with attempt:
                return self._send(self._lent.connection, request, retries)
        raise AssertionError("the last attempt returns or raises")

    def _send(self, client: httpx2.Client, request: httpx2.Request, retries: Retries) -> httpx2.Response:
        if client.is_closed:
            raise PoolClosed("http")
        where = named(request.method, request.url)
        left_s = retries.left_s
        if left_s <= 0:
            raise HostTimeout(where, "its deadline has passed")
        timeouts = self._pool.limits.timeouts(left_s).as_dict()
        request.extensions = {"timeout": timeouts, ENDS_S: time.monotonic() + left_s}
        try:
            return checked(client.send(request), where)
        except httpx2.HTTPError as error:
            raise translated(error, where) from error

    def __enter__(self) -> "HttpConnection":
        self._host, self._lent = self._pool._lend(self._base, self._timeout_s)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._host is not None and self._lent is not None:
            lent, self._lent = self._lent, None
            lent.give_back()
            self._pool._leave(self._host)


class HttpPool:
    """Connections to HTTP hosts, kept alive; each host has a limit of its own, so one that hangs holds up no other.

    Borrowers of one host wait in turn. It opens nothing until it is used. A forked process starts anew.
    """

    def __init__(self, limits: HttpLimits = DEFAULT_LIMITS, ssl_context: ssl.SSLContext | None = None) -> None:
        self.limits = limits
        self._ssl_context = ssl_context
        self._lock = threading.Lock()
        self._hosts: OrderedDict[str, _Host] = OrderedDict()
        self._inherited: list[object] = []
        self._closed = False
        tell_of_forks(self)

    def get_connection(self, base_url: str, timeout_s: float | None = None) -> HttpConnection:
        """``with pool.get_connection("https://host/path") as connection: connection.get("below")``.

        Raises:
            InvalidHttpRequest: at once: ``base_url`` is none (final).
            PoolTimeout, PoolOverloaded: on entering: the host's limit is used up (retryable).
            PoolClosed: on entering (final).
        """
        return HttpConnection(self, base_of(base_url), timeout_s)

    def stats(self) -> dict[str, PoolStats]:
        """The borrowers of each host, by ``scheme://host:port``. ``size`` counts places, not sockets."""
        with self._lock:
            return {origin: host.places.stats() for origin, host in self._hosts.items()}

    def maintain(self) -> None:
        """Report what is borrowed for too long."""
        with self._lock:
            hosts = list(self._hosts.values())
        for host in hosts:
            host.places.maintain()

    def close(self, timeout_s: float = 10.0) -> bool:
        """Lend nothing any more, wait for what is lent, and close the connections; whether all came back in time."""
        with self._lock:
            self._closed = True
            hosts, self._hosts = list(self._hosts.values()), OrderedDict()
        ends_s = time.monotonic() + timeout_s
        # All of them, also where the first one is late.
        return all([host.close(max(0.0, ends_s - time.monotonic())) for host in hosts])

    def forked(self) -> None:
        """In a child: begin anew; the parent's sockets are kept as they are, for closing them would disturb it."""
        self._inherited.append(self._hosts)
        self._lock, self._hosts = threading.Lock(), OrderedDict()

    def _lend(self, base: httpx2.URL, timeout_s: float | None) -> "tuple[_Host, Lent[httpx2.Client]]":
        origin = origin_of(base)
        with self._lock:
            if self._closed:
                raise PoolClosed("http")
            host = self._hosts.get(origin) or self._open(origin)
            self._hosts.move_to_end(origin)
            host.users += 1
            unused = list(self._unused())
        for old in unused:
            old.close(0.0)
        try:
            return host, host.places.borrow(timeout_s)
        except BaseException:
            self._leave(host)
            raise

    def _leave(self, host: "_Host") -> None:
        with self._lock:
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
        transport = _Timely(
            verify=ssl_context or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
            http2=limits.http2,
            limits=limits.of_client(),
        )
        self.users = 0
        self.client = httpx2.Client(transport=transport, cookies=no_cookies(), trust_env=False)
        self.places = Pool(self._same_client, _keep_open, limits.of_host(), survives=_always, name=origin)

    def close(self, timeout_s: float) -> bool:
        drained = self.places.close(timeout_s)
        self.client.close()
        return drained

    def _same_client(self) -> httpx2.Client:
        return self.client


class _Timely(httpx2.HTTPTransport):
    """Ends answers that drip in for longer than their request may take: each part of them would be in time."""

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        response = super().handle_request(request)
        assert isinstance(response.stream, httpx2.SyncByteStream)
        response.stream = _TimelyStream(response.stream, request.extensions[ENDS_S], time.monotonic)
        return response


class _TimelyStream(httpx2.SyncByteStream):
    def __init__(self, stream: httpx2.SyncByteStream, ends_s: float, now_s: Callable[[], float]) -> None:
        self._stream = stream
        self._ends_s = ends_s
        self._now_s = now_s

    def __iter__(self) -> Iterator[bytes]:
        for part in self._stream:
            yield part
            if self._now_s() > self._ends_s:
                raise httpx2.ReadTimeout("the answer came in too slowly")

    def close(self) -> None:
        self._stream.close()


def _keep_open(_client: httpx2.Client) -> None:
    """All places of a host have the same client, which goes with the host."""


def _always(_error: BaseException) -> bool:
    return True
