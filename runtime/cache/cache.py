"""A cache of two tiers: opened once by a process, closed once."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Final, Self, TypeVar
from uuid import uuid4

from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from runtime.cache.clock import Clock
from runtime.cache.codecs import Codec
from runtime.cache.entries import NEVER_S, Limits
from runtime.cache.keys import check_name, prefix_chain, tag_names
from runtime.cache.lifetimes import Lifetime
from runtime.cache.listener import Listener, Vouch
from runtime.cache.loading import Tiers
from runtime.cache.lru import Lru
from runtime.cache.memory import MemoryTier, Policy
from runtime.cache.recipes import Recipe
from runtime.cache.redis_commands import check_namespace
from runtime.cache.redis_tier import RedisTier
from runtime.cache.regions import Background, Region
from runtime.cache.stats import CacheStats, Tallies
from runtime.cache.weights import weigh as weigh_by_size

Value = TypeVar("Value")

NAMESPACE: Final = "headrace-cache"
#: How long one command may take before the loader is asked instead.
ANSWER_S: Final = 1.0
#: Threads that load ahead of time, and that ask Redis on behalf of tasks. They start as they are needed.
REFRESHING_THREADS: Final = 4
ASKING_THREADS: Final = 8


class Cache:
    """Memory over Redis; without ``redis`` memory alone. Thread-safe. The client is closed with the cache.

    A client should give up soon and not try again by itself, as those of ``connect`` do, and may not decode responses.

    ``weigh`` gives a value's size in bytes where it is not encoded for Redis.
    """

    def __init__(
        self,
        redis: "Redis | None" = None,
        *,
        namespace: str = NAMESPACE,
        limits: Limits | None = None,
        policy: Callable[[Limits], Policy] = Lru,
        weigh: Callable[[object], int] = weigh_by_size,
        clock: Clock | None = None,
    ) -> None:
        check_namespace(namespace)
        if redis is not None and redis.get_connection_kwargs().get("decode_responses"):
            raise ValueError("The Redis client has decode_responses=True, but entries are bytes. Make it without.")
        clock = clock or Clock()
        self._client = redis
        self._weigh = weigh
        self._tallies = Tallies()
        self._memory = MemoryTier(policy, limits or Limits(), self._tallies.evictions)
        origin = uuid4().hex
        self._redis = RedisTier(redis, namespace, origin, self._tallies, clock) if redis else None
        self._tiers = Tiers(self._memory, self._redis, clock, self._tallies)
        self._refreshing = ThreadPoolExecutor(REFRESHING_THREADS, "cache-refresh")
        self._asking = ThreadPoolExecutor(ASKING_THREADS, "cache-redis")
        self._background = Background(self._refreshing, self._asking)
        self._lock = threading.Lock()
        self._regions: list[Region[Any]] = []
        self._listener = None
        self._vouch = Vouch(NEVER_S)
        if redis is not None:
            self._listener = Listener(
                redis, namespace, origin, clock, on_names=self._heard, on_gap=self._missed, on_tick=self._tick
            )
            self._vouch = self._listener.vouch

    @classmethod
    def connect(cls, url: str, **options: Any) -> Self:
        """A cache whose commands fail within ``ANSWER_S``; it is connected when it is needed. Options as above."""
        client = Redis.from_url(
            url, socket_timeout=ANSWER_S, socket_connect_timeout=ANSWER_S, retry=Retry(NoBackoff(), 0), protocol=2
        )
        return cls(client, **options)

    def region(
        self,
        prefix: str,
        codec: Codec[Value],
        lifetime: Lifetime,
        *,
        version: int = 1,
        absent: type[Exception] | None = None,
        shared: bool = True,
    ) -> Region[Value]:
        """Values of one kind. ``version`` rises where their meaning changes; not ``shared``, they stay in memory.

        ``absent`` is the class of error by which a loader says that there is nothing: it is kept for
        ``lifetime.absent_s``, and raised again as ``absent(message)``.

        Raises:
            NotCacheable: the prefix is none.
        """
        recipe = Recipe(codec, lifetime, absent, self._weigh)
        tiers = self._tiers if shared else replace(self._tiers, redis=None)
        region: Region[Value] = Region(prefix, version, recipe, tiers, self._vouch, self._background)
        with self._lock:
            self._regions.append(region)
        return region

    def invalidate(self, *names: str) -> bool:
        """Forget entries by ``Key.name``, and those that depend on ``p:<prefix>`` or ``t:<tag>``, in all processes.

        See the package for what that means. False where Redis has still to be told, which is repeated until it is.

        Raises:
            NotCacheable: that is no name.
        """
        for name in names:
            check_name(name)
        if not names:
            return True
        told = self._redis is None or self._redis.invalidate(names)
        # After Redis: what was read there until then does not come into memory any more.
        self._memory.invalidate(names)
        return told

    def invalidate_tags(self, *tags: str) -> bool:
        """Forget what has one of these tags."""
        return self.invalidate(*tag_names(tags))

    def invalidate_prefix(self, prefix: str) -> bool:
        """Forget what lies under the prefix, for all tenants.

        Raises:
            NotCacheable: it is no prefix.
        """
        return self.invalidate(prefix_chain(prefix)[-1])

    def clear(self) -> bool:
        """Forget everything."""
        told = self._redis is None or self._redis.invalidate(())
        self._memory.clear()
        return told

    def stats(self) -> CacheStats:
        """The counts since it was opened, and what it holds now."""
        with self._lock:
            hits = sum(region.stats().hits for region in self._regions)
        tallies, redis = self._tallies, self._redis
        return CacheStats(
            memory_hits=hits,
            **{name: tally.read() for name, tally in vars(tallies).items()},
            entries=len(self._memory),
            size_bytes=self._memory.size_bytes,
            redis_answers=redis is not None and redis.answers.closed,
            redis_writable=redis is not None and redis.writes.closed,
            undelivered=redis.undelivered if redis else 0,
            listening=self._tiers.clock.monotonic_s() < self._vouch.until_s,
        )

    def close(self) -> None:
        """End the threads and the connections. What is loaded ahead of time now is waited for."""
        self._refreshing.shutdown(cancel_futures=True)
        self._asking.shutdown()
        if self._listener:
            self._listener.close()
        if self._redis:
            self._redis.close()
        if self._client is not None:
            self._client.close()

    def _heard(self, names: tuple[str, ...]) -> None:
        self._tallies.invalidations.add()
        if names:
            self._memory.invalidate(names)
        else:
            self._memory.clear()

    def _missed(self) -> None:
        self._tallies.gaps.add()
        self._memory.clear()

    def _tick(self) -> None:
        if self._redis:
            self._redis.renew()
            if self._redis.undelivered:
                self._redis.deliver()
