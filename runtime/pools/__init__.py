"""Things that are opened once and lent to many: connections of any kind, HTTP hosts, Postgres, devices.

What needs httpx2 is imported when it is first asked for: most processes ask no HTTP host anything.
"""

from typing import TYPE_CHECKING

from runtime.pools.async_pool import AsyncPool
from runtime.pools.budgets import Device, DevicePoolStats, DeviceStats
from runtime.pools.devices import DevicePool, Reservation
from runtime.pools.errors import (
    Holding,
    PoolClosed,
    PoolError,
    PoolMisused,
    PoolOverloaded,
    PoolTimeout,
    ReservationTooLarge,
)
from runtime.pools.exposition import PoolCollector
from runtime.pools.ledger import Limits
from runtime.pools.lent import AsyncLent, Lent
from runtime.pools.pool import Pool
from runtime.pools.stats import PoolStats, Reason, WaitStats

if TYPE_CHECKING:
    from runtime.pools.http import AsyncHttpConnection, AsyncHttpPool, HttpConnection, HttpError, HttpLimits, HttpPool

__all__ = [
    "AsyncHttpConnection",
    "AsyncHttpPool",
    "AsyncLent",
    "AsyncPool",
    "Device",
    "DevicePool",
    "DevicePoolStats",
    "DeviceStats",
    "Holding",
    "HttpConnection",
    "HttpError",
    "HttpLimits",
    "HttpPool",
    "Lent",
    "Limits",
    "Pool",
    "PoolClosed",
    "PoolCollector",
    "PoolError",
    "PoolMisused",
    "PoolOverloaded",
    "PoolStats",
    "PoolTimeout",
    "Reason",
    "Reservation",
    "ReservationTooLarge",
    "WaitStats",
]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from runtime.pools import http

    return getattr(http, name)
