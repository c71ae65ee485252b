"""HTTP connections with a limit for each host, kept alive, with retries of what may be repeated."""

from runtime.pools.http.async_pool import AsyncHttpConnection, AsyncHttpPool
from runtime.pools.http.errors import (
    HostBusy,
    HostDisconnected,
    HostFailed,
    HostTimeout,
    HostUnreachable,
    HttpError,
    HttpStatusError,
    InvalidAnswer,
    InvalidHttpRequest,
    RequestRejected,
)
from runtime.pools.http.exchange import HttpLimits
from runtime.pools.http.pool import HttpConnection, HttpPool

__all__ = [
    "AsyncHttpConnection",
    "AsyncHttpPool",
    "HostBusy",
    "HostDisconnected",
    "HostFailed",
    "HostTimeout",
    "HostUnreachable",
    "HttpConnection",
    "HttpError",
    "HttpLimits",
    "HttpPool",
    "HttpStatusError",
    "InvalidAnswer",
    "InvalidHttpRequest",
    "RequestRejected",
]
