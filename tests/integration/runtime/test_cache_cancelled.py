"""Tasks that are cancelled in the middle of asking Redis leave nothing behind that others would wait for."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from redis import Redis

from runtime.cache import Cache
from runtime.cache.cache import ASKING_THREADS
from runtime.cache.redis_tier import LEASE_S, RedisTier
from tests.integration.runtime.cache_sight import OpenCache, opener, texts, until

#: Well below what a lease lasts that nobody gives up.
SOON_S = LEASE_S / 2


@pytest.fixture
def open_cache(redis_url: str) -> Iterator[OpenCache]:
    with opener(redis_url) as open_cache:
        yield open_cache


class Held:
    """The next call of a method of the tier goes on only when it is told: the moment between two steps."""

    def __init__(self, cache: Cache, name: str, *, answered: bool) -> None:
        assert cache._redis is not None
        self.tier: RedisTier = cache._redis
        self.begun, self.go = threading.Event(), threading.Event()
        self._name, self._answered = name, answered
        self._call: Callable[..., Any] = getattr(self.tier, name)
        setattr(self.tier, name, self)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        setattr(self.tier, self._name, self._call)
        answer = self._call(*args, **kwargs) if self._answered else None
        self.begun.set()
        self.go.wait(20)
        return answer if self._answered else self._call(*args, **kwargs)


async def cancelled(task: "asyncio.Task[Any]") -> None:
    """Cancel it, and return once it has heeded that."""
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def value() -> str:
    """A loader."""
    return "value"


@pytest.mark.timeout(60)
@pytest.mark.parametrize("step", ["begin", "store"])
def test_whoever_waits_for_a_cancelled_task_loads_at_once(open_cache: OpenCache, step: str) -> None:
    cache = open_cache()
    region, held = texts(cache), Held(cache, step, answered=step == "begin")
    key = region.key("a")

    async def run() -> None:
        first = asyncio.create_task(region.get_or_load_async(key, value))
        await asyncio.to_thread(held.begun.wait, 20)
        second = asyncio.create_task(region.get_or_load_async(key, value))
        await asyncio.sleep(0)
        await cancelled(first)
        held.go.set()
        assert await asyncio.wait_for(second, SOON_S) == "value"

    asyncio.run(run())
    until(lambda: not held.tier._leases)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("how", ["load", "put"])
def test_a_lease_is_given_up_though_no_thread_was_free_to_store(
    open_cache: OpenCache, redis_url: str, how: str
) -> None:
    cache = open_cache()
    region, go, tier = texts(cache), threading.Event(), cache._redis
    key = region.key("a")
    assert tier is not None
    begin, free = tier.begin, cache._asking.submit

    def last(*args: Any, **kwargs: Any) -> Any:
        lease = begin(*args, **kwargs)
        for _ in range(ASKING_THREADS):
            free(go.wait, 20)
        return lease

    tier.begin = last  # type: ignore[method-assign]

    async def run() -> None:
        ask = region.get_or_load_async(key, value) if how == "load" else region.put_async(key, "value")
        task = asyncio.create_task(ask)
        await asyncio.to_thread(until, lambda: bool(tier._leases))
        await cancelled(task)
        assert not tier._leases
        go.set()

    asyncio.run(run())
    with Redis.from_url(redis_url) as client:
        until(lambda: not client.exists("headrace-cache:l" + key.name[1:]))


@pytest.mark.timeout(60)
def test_what_was_read_beside_a_cancelled_put_does_not_outlive_what_it_stored(open_cache: OpenCache) -> None:
    cache, other = open_cache(), texts(open_cache())
    region = texts(cache)
    key = region.key("a")
    assert other.put(key, "old")
    until(lambda: cache.stats().invalidations == 1)
    held, released = (Held(cache, step, answered=False) for step in ("store", "release"))

    async def run() -> None:
        task = asyncio.create_task(region.put_async(key, "new"))
        await asyncio.to_thread(held.begun.wait, 20)
        await cancelled(task)
        assert region.get(key) == "old"
        held.go.set()
        await asyncio.to_thread(until, lambda: cache.stats().entries == 0)
        released.go.set()

    asyncio.run(run())
    until(lambda: other.get(key) == "new")
    until(lambda: region.get(key) == "new")
