"""Things that are opened once and lent to many: connections of any kind, HTTP hosts, Postgres, devices."""

from runtime.pools.async_pool import AsyncLent, AsyncPool
from runtime.pools.errors import Holding, PoolClosed, PoolError, PoolMisused, PoolOverloaded, PoolTimeout
from runtime.pools.ledger import Limits
from runtime.pools.pool import Lent, Pool
from runtime.pools.stats import PoolStats, Reason, WaitStats

__all__ = [
    "AsyncLent",
    "AsyncPool",
    "Holding",
    "Lent",
    "Limits",
    "Pool",
    "PoolClosed",
    "PoolError",
    "PoolMisused",
    "PoolOverloaded",
    "PoolStats",
    "PoolTimeout",
    "Reason",
    "WaitStats",
]
