"""What the two HTTP pools have in common: addresses, what an exception means, and what may be sent again. No I/O."""

import random
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Final

import httpx2
from msgspec import Struct

from runtime.pools.http.errors import (
    HostBusy,
    HostDisconnected,
    HostFailed,
    HostTimeout,
    HostUnreachable,
    HttpError,
    InvalidAnswer,
    InvalidHttpRequest,
    RequestRejected,
)
from runtime.pools.ledger import Limits
from schemas.errors import shown

#: Methods whose repetition means nothing else than doing it once (RFC 9110, section 9.2.2).
IDEMPOTENT: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
#: A request with this header is carried out once, however often it comes (draft-ietf-httpapi-idempotency-key-header).
IDEMPOTENCY_KEY: Final = "idempotency-key"
#: Not now: too many requests, or somebody between here and there does not get through.
BUSY: Final = frozenset({429, 502, 503, 504})
#: The first wait is at most so long, each at most double the one before. Anything down to nothing, so that those who
#: failed together do not come back together ("full jitter", AWS Architecture Blog 2015).
BACKOFF_S: Final = 0.1
BACKOFF_LIMIT_S: Final = 10.0
FOREVER_S: Final = float("inf")
_USER: Final = re.compile(r"://[^/]*@")


class HttpLimits(Struct, frozen=True, kw_only=True):
    """The bounds of an HTTP pool; those of a host hold for each scheme, host and port of its own."""

    #: Borrowers of a host at once, and connections to it. HTTP/2 needs one connection for all of them.
    per_host: int = 10
    #: Borrowers that may wait for a host, and for how long.
    waiting: int = 1_000
    timeout_s: float = 30.0
    #: Hosts whose connections are kept; above it, those that nobody uses are closed, used longest ago first.
    hosts: int = 100
    connect_s: float = 5.0
    #: How long a host may say nothing in the midst of a request.
    silence_s: float = 30.0
    #: A request with all its repetitions, and how often it is sent at most.
    deadline_s: float = 60.0
    attempts: int = 5
    #: An idle connection is closed after this.
    idle_s: float = 30.0
    #: A borrow that takes longer is reported, once, by ``maintain``.
    overdue_s: float = 300.0
    http2: bool = True

    def of_host(self) -> Limits:
        """The bounds of one host's borrowers; connections are httpx2's to open, to try and to close."""
        return Limits(
            size=self.per_host,
            waiting=self.waiting,
            timeout_s=self.timeout_s,
            age_s=FOREVER_S,
            idle_s=FOREVER_S,
            check_after_s=FOREVER_S,
            overdue_s=self.overdue_s,
            maintain_every_s=None,
        )

    def of_client(self) -> httpx2.Limits:
        """The same for httpx2."""
        return httpx2.Limits(
            max_connections=self.per_host, max_keepalive_connections=self.per_host, keepalive_expiry=self.idle_s
        )

    def timeouts(self, left_s: float) -> httpx2.Timeout:
        """The timeouts of one attempt that may take ``left_s`` in all."""
        silence_s = min(self.silence_s, left_s)
        return httpx2.Timeout(connect=min(self.connect_s, left_s), read=silence_s, write=silence_s, pool=left_s)


class Retries:
    """Decides after each failed attempt at one request whether it is sent again, and when: a backoff hook of stamina's.

    ``repeatable``: the request may be carried out twice. Any request may be sent again that was not sent at all.
    """

    def __init__(self, ends_s: float, now_s: Callable[[], float], *, repeatable: bool) -> None:
        self._ends_s = ends_s
        self._now_s = now_s
        self._repeatable = repeatable
        self._failures = 0

    @property
    def left_s(self) -> float:
        """Until the deadline."""
        return self._ends_s - self._now_s()

    def __call__(self, error: Exception) -> float | bool:
        """The wait before the next attempt; False: there is none."""
        self._failures += 1
        if isinstance(error, HttpError):
            error.attempts = self._failures
        again = isinstance(error, HostUnreachable) or (
            self._repeatable and isinstance(error, HostTimeout | HostDisconnected | HostBusy)
        )
        if not again:
            return False
        wait_s = random.uniform(0.0, min(BACKOFF_LIMIT_S, BACKOFF_S * 2 ** (self._failures - 1)))
        if isinstance(error, HostBusy) and error.retry_after_s is not None:
            # Not before the host wants it, and not all who were told the same in one moment.
            wait_s += error.retry_after_s
        # A wait that ends after the deadline would only put off the same error.
        return wait_s if wait_s < self.left_s else False


def repeatable(method: str, headers: Mapping[str, str]) -> bool:
    """Whether a request may be carried out twice."""
    return method.upper() in IDEMPOTENT or any(name.lower() == IDEMPOTENCY_KEY for name in headers)


def base_of(base_url: str) -> httpx2.URL:
    """A base URL that can be one.

    Raises:
        InvalidHttpRequest: it is not an absolute http or https URL (final).
    """
    said = shown(_USER.sub("://***@", base_url))
    try:
        url = httpx2.URL(base_url)
    except httpx2.InvalidURL as error:
        raise InvalidHttpRequest(said, f"it is no URL: {error}") from error
    if url.scheme not in ("http", "https") or not url.host or url.query or url.fragment:
        raise InvalidHttpRequest(said, "a base is http(s)://host[:port][/path] and nothing more")
    return url


def named(method: str, url: httpx2.URL) -> str:
    """A request as messages and logs may show it: passwords and tokens are in what is left out."""
    return f"{method} {origin_of(url)}{url.path}"


def origin_of(base: httpx2.URL) -> str:
    """What limits are for: scheme, host and port."""
    return f"{base.scheme}://{base.netloc.decode('ascii')}"


def below(base: httpx2.URL, path: str) -> httpx2.URL:
    """The URL of a path below the base, whatever the path looks like: never another host's.

    Raises:
        InvalidHttpRequest: the path has a scheme, or can't be a path (final).
    """
    if "://" in path.partition("?")[0]:
        raise InvalidHttpRequest(origin_of(base), f"{shown(path)} is no path. Borrow a connection to that host")
    joined = f"{str(base).rstrip('/')}/{path.lstrip('/')}" if path else str(base)
    try:
        return httpx2.URL(joined)
    except httpx2.InvalidURL as error:
        raise InvalidHttpRequest(origin_of(base), f"{shown(path)} is no path: {error}") from error


def translated(error: httpx2.HTTPError, where: str) -> HttpError:
    """One of our errors for one of httpx2's."""
    reason = f"{type(error).__name__} {error}".rstrip()
    match error:
        case httpx2.ConnectError() | httpx2.ConnectTimeout() | httpx2.PoolTimeout() | httpx2.ProxyError():
            return HostUnreachable(where, f"no connection: {reason}")
        case httpx2.TimeoutException():
            return HostTimeout(where, f"no answer in time: {reason}")
        case httpx2.NetworkError() | httpx2.RemoteProtocolError():
            return HostDisconnected(where, f"the connection broke: {reason}")
        case httpx2.DecodingError():
            return InvalidAnswer(where, reason)
        case _:
            return InvalidHttpRequest(where, reason)


def checked(response: httpx2.Response, where: str) -> httpx2.Response:
    """The response, if it is no error.

    Raises:
        HostBusy, HostFailed, RequestRejected: by its status.
    """
    status = response.status_code
    if status in BUSY:
        raise HostBusy(where, status, response.content, retry_after_s(response.headers.get("retry-after", "")))
    if status >= 500:
        raise HostFailed(where, status, response.content)
    if status >= 400:
        raise RequestRejected(where, status, response.content)
    return response


def retry_after_s(value: str) -> float | None:
    """The seconds of a ``Retry-After`` header, in either of its forms (RFC 9110, section 10.2.3); None: it has none."""
    if value.isascii() and value.isdecimal():
        return float(value)
    try:
        at = parsedate_to_datetime(value)
    except (ValueError, OverflowError):  # a host may send any number as a year
        return None
    # A date without a zone is one in UTC.
    return max(0.0, (at.replace(tzinfo=at.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


def no_cookies() -> CookieJar:
    """A jar that stays empty: a host's borrowers share a client, and may be different tenants' jobs."""
    return CookieJar(DefaultCookiePolicy(allowed_domains=[]))
