"""A cache of memory alone: one load for all, lifetimes, errors, nothing at all, and invalidation."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from runtime.cache import Cache, CacheStats, Lifetime, Limits, MsgspecCodec, NotCacheable, Region
from tests.unit.runtime.caching import Loader, Time

LIFETIME = Lifetime(ttl_s=60, jitter=0, early=0)


class Gone(Exception):
    """There is nothing."""


class FarGone(Gone):
    """Something else."""


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def cache(time: Time) -> Iterator[Cache]:
    with closing(Cache(clock=time.clock)) as cache:
        yield cache


def numbers(cache: Cache, lifetime: Lifetime = LIFETIME, absent: type[Exception] | None = None) -> Region[int]:
    return cache.region("numbers", MsgspecCodec(int), lifetime, absent=absent)


def test_a_value_is_loaded_once_in_its_lifetime(cache: Cache, time: Time) -> None:
    region, load = numbers(cache), Loader()
    key = region.key("a")

    assert [region.get_or_load(key, load) for _ in range(3)] == [1, 1, 1]
    time.pass_s(59.9)
    assert region.get_or_load(key, load) == 1
    time.pass_s(0.1)
    assert region.get(key) is None
    assert region.get_or_load(key, load) == 2


def test_a_loader_error_reaches_the_caller_and_the_next_call_tries_again(cache: Cache) -> None:
    region, load = numbers(cache), Loader(error=ValueError("broken"))
    key = region.key("a")
    with pytest.raises(ValueError, match="broken"):
        region.get_or_load(key, load)
    load.error = None
    assert region.get_or_load(key, load) == 2
    assert cache.stats().load_errors == 1


def test_threads_that_want_one_value_wait_for_one_load(cache: Cache) -> None:
    region, everybody = numbers(cache), threading.Barrier(8)
    waiting = threading.Event()
    load = Loader(before=lambda: waiting.wait(10))

    def call() -> int:
        everybody.wait()
        return region.get_or_load(region.key("a"), load)

    with ThreadPoolExecutor(8) as threads:
        calls = [threads.submit(call) for _ in range(7)]
        everybody.wait()
        waiting.set()
        assert {each.result() for each in calls} == {1}
    assert load.calls == 1


def test_threads_that_wait_get_the_error_of_the_load(cache: Cache) -> None:
    region, waiting, loading = numbers(cache), threading.Event(), threading.Event()

    def before() -> None:
        loading.set()
        waiting.wait(10)

    load = Loader(before, error=ValueError("broken"))
    with ThreadPoolExecutor(3) as threads:
        calls = [threads.submit(region.get_or_load, region.key("a"), load)]
        assert loading.wait(10)
        calls += [threads.submit(region.get_or_load, region.key("a"), load) for _ in range(2)]
        until_waiting(cache, 3)
        waiting.set()
        errors = [each.exception() for each in calls]
    assert load.calls == 1
    assert all(isinstance(error, ValueError) for error in errors)


def test_tasks_and_threads_share_a_load(cache: Cache) -> None:
    region, loading, go = numbers(cache), threading.Event(), threading.Event()

    def before() -> None:
        loading.set()
        go.wait(10)

    load = Loader(before)

    async def load_async() -> int:
        return load()

    async def run() -> list[int]:
        with ThreadPoolExecutor(1) as threads:
            thread = threads.submit(region.get_or_load, region.key("a"), load)
            await asyncio.to_thread(loading.wait, 10)
            tasks = [asyncio.create_task(region.get_or_load_async(region.key("a"), load_async)) for _ in range(3)]
            await asyncio.sleep(0)
            go.set()
            return [*await asyncio.gather(*tasks), thread.result()]

    assert asyncio.run(run()) == [1, 1, 1, 1]
    assert load.calls == 1


def test_a_cancelled_load_is_taken_over_by_a_task_that_waits(cache: Cache) -> None:
    region, calls = numbers(cache), 0

    async def run() -> int:
        never, begun = asyncio.Event(), asyncio.Event()

        async def load() -> int:
            nonlocal calls
            calls += 1
            if calls == 1:
                begun.set()
                await never.wait()
            return calls

        first = asyncio.create_task(region.get_or_load_async(region.key("a"), load))
        await begun.wait()
        second = asyncio.create_task(region.get_or_load_async(region.key("a"), load))
        await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        return await second

    assert asyncio.run(run()) == 2


def test_a_waiting_task_that_is_cancelled_cancels_nobody_else(cache: Cache) -> None:
    region = numbers(cache)

    async def run() -> int:
        go, begun = asyncio.Event(), asyncio.Event()

        async def load() -> int:
            begun.set()
            await go.wait()
            return 7

        first = asyncio.create_task(region.get_or_load_async(region.key("a"), load))
        await begun.wait()
        second = asyncio.create_task(region.get_or_load_async(region.key("a"), load))
        await asyncio.sleep(0)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        go.set()
        return await first

    assert asyncio.run(run()) == 7


def test_a_loader_that_asks_for_its_own_key_does_not_wait_for_itself(cache: Cache) -> None:
    region = numbers(cache)
    key = region.key("a")

    async def inner() -> int:
        return 1

    async def outer() -> int:
        return 1 + await region.get_or_load_async(key, inner)

    assert region.get_or_load(key, lambda: 1 + region.get_or_load(key, lambda: 1)) == 2
    cache.clear()
    assert asyncio.run(region.get_or_load_async(key, outer)) == 2


def test_what_was_invalidated_while_it_was_loaded_is_not_kept_and_not_joined(cache: Cache) -> None:
    region, key = numbers(cache), numbers(cache).key("a", tags=("model",))
    inner: list[int] = []

    def invalidated() -> None:
        cache.invalidate_tags("model")
        if not inner:
            inner.append(0)
            with ThreadPoolExecutor(1) as threads:
                inner.append(threads.submit(region.get_or_load, key, lambda: 100).result())

    load = Loader(before=invalidated)
    assert region.get_or_load(key, load) == 1
    # What began after the invalidation loaded for itself, and that is what is kept.
    assert inner == [0, 100]
    assert region.get(key) == 100


@pytest.mark.parametrize("how", ["name", "tag", "prefix", "outer prefix", "clear"])
def test_each_way_to_invalidate_forgets_what_it_means_and_nothing_else(cache: Cache, how: str) -> None:
    inside = cache.region("models:tuned", MsgspecCodec(int), LIFETIME)
    beside = cache.region("models2", MsgspecCodec(int), LIFETIME)
    key, other = inside.key(1, tags=("x",)), beside.key(1, tags=("y",))
    inside.put(key, 1)
    beside.put(other, 2)

    match how:
        case "name":
            cache.invalidate(key.name)
        case "tag":
            cache.invalidate_tags("x", "z")
        case "prefix":
            cache.invalidate_prefix("models:tuned")
        case "outer prefix":
            cache.invalidate_prefix("models")
        case _:
            cache.clear()

    assert inside.get(key) is None
    assert beside.get(other) == (None if how == "clear" else 2)


def test_a_value_is_loaded_anew_in_the_background_before_its_end(time: Time) -> None:
    with closing(Cache(clock=time.clock)) as cache:
        region = numbers(cache, Lifetime(ttl_s=60, jitter=0))
        key, asked = region.key("a"), threading.Event()
        load = Loader(before=lambda: time.pass_s(2.0))
        assert region.get_or_load(key, load) == 1
        refreshed = Loader(before=lambda: asked.wait(10))
        refreshed.calls = 1
        time.pass_s(57.5)

        assert [region.get_or_load(key, refreshed) for _ in range(5)] == [1] * 5
        asked.set()

    assert refreshed.calls == 2
    assert region.get(key) == 2
    assert cache.stats().refreshes == 1


def test_a_refresh_that_fails_leaves_the_value_until_its_end(time: Time) -> None:
    with closing(Cache(clock=time.clock)) as cache:
        region = numbers(cache, Lifetime(ttl_s=60, jitter=0))
        key = region.key("a")
        load = Loader(before=lambda: time.pass_s(2.0))
        region.get_or_load(key, load)
        time.pass_s(57.5)
        load.error = ValueError("broken")
        load.before = lambda: None
        assert region.get_or_load(key, load) == 1
    assert region.get(key) == 1
    time.pass_s(2.5)
    with pytest.raises(ValueError, match="broken"):
        region.get_or_load(key, load)


def test_a_task_refreshes_in_another_task(cache: Cache, time: Time) -> None:
    region = numbers(cache, Lifetime(ttl_s=60, jitter=0))
    key, calls = region.key("a"), 0

    async def run() -> list[int | None]:
        done = asyncio.Event()

        async def load() -> int:
            nonlocal calls
            calls += 1
            time.pass_s(2.0)
            if calls == 2:
                done.set()
            return calls

        values: list[int | None] = [await region.get_or_load_async(key, load)]
        time.pass_s(57.5)
        values.append(await region.get_or_load_async(key, load))
        await done.wait()
        await asyncio.sleep(0)
        return [*values, region.get(key)]

    assert asyncio.run(run()) == [1, 1, 2]


def test_a_value_past_its_end_stands_in_for_a_loader_that_fails(cache: Cache, time: Time) -> None:
    region, load = numbers(cache, Lifetime(ttl_s=60, jitter=0, early=0, stale_s=30)), Loader()
    key = region.key("a")
    region.get_or_load(key, load)
    time.pass_s(70)
    load.error = ValueError("broken")

    # One try, and then none for a second.
    assert [region.get_or_load(key, load) for _ in range(3)] == [1, 1, 1]
    assert load.calls == 2
    time.pass_s(1.0)
    assert region.get_or_load(key, load) == 1
    assert load.calls == 3
    time.pass_s(19.0)
    with pytest.raises(ValueError, match="broken"):
        region.get_or_load(key, load)
    assert cache.stats().stale == 2


def test_a_value_past_its_end_that_was_invalidated_stands_in_for_nothing(cache: Cache, time: Time) -> None:
    region, load = numbers(cache, Lifetime(ttl_s=60, jitter=0, early=0, stale_s=30)), Loader()
    key = region.key("a")
    region.get_or_load(key, load)
    time.pass_s(70)
    cache.invalidate(key.name)
    load.error = ValueError("broken")
    with pytest.raises(ValueError, match="broken"):
        region.get_or_load(key, load)


def test_that_there_is_nothing_is_kept_for_its_own_time(cache: Cache, time: Time) -> None:
    region = numbers(cache, Lifetime(ttl_s=60, jitter=0, absent_s=5), absent=Gone)
    key, load = region.key("a"), Loader(error=Gone("no such model"))
    for _ in range(3):
        with pytest.raises(Gone, match="no such model"):
            region.get_or_load(key, load)
    assert load.calls == 1
    time.pass_s(5)
    load.error = None
    assert region.get_or_load(key, load) == 2


def test_none_is_kept_only_where_nothing_is(cache: Cache) -> None:
    kept = cache.region("kept", MsgspecCodec(int | None), Lifetime(ttl_s=60, absent_s=5))
    dropped = cache.region("dropped", MsgspecCodec(int | None), Lifetime(ttl_s=60))
    for region, loads in ((kept, 1), (dropped, 3)):
        calls = []
        for _ in range(3):
            assert region.get_or_load(region.key("a"), lambda: calls.append(1)) is None  # noqa: B023
        assert len(calls) == loads


@pytest.mark.parametrize("error", [FarGone("derived"), ValueError("another")])
def test_only_the_declared_error_itself_is_kept(cache: Cache, error: Exception) -> None:
    region, load = numbers(cache, Lifetime(ttl_s=60, absent_s=5), absent=Gone), Loader(error=error)
    for _ in range(2):
        with pytest.raises(type(error)):
            region.get_or_load(region.key("a"), load)
    assert load.calls == 2


def test_an_error_that_a_message_does_not_make_is_refused(cache: Cache) -> None:
    class Picky(Exception):
        def __init__(self, name: str, reason: str) -> None:
            super().__init__(name, reason)

    region = numbers(cache, Lifetime(ttl_s=60, absent_s=5), absent=Picky)
    with pytest.raises(NotCacheable, match="its message"):
        region.get_or_load(region.key("a"), Loader(error=Picky("a", "b")))


def test_tenants_and_versions_do_not_see_each_other(cache: Cache) -> None:
    region = numbers(cache)
    newer = cache.region("numbers", MsgspecCodec(int), LIFETIME, version=2)
    region.put(region.key("a", tenant="one"), 1)
    assert region.get(region.key("a", tenant="two")) is None
    assert newer.get(newer.key("a", tenant="one")) is None


def test_memory_keeps_its_bounds_and_counts_what_leaves(time: Time) -> None:
    limits = Limits(entries=3)
    with closing(Cache(limits=limits, clock=time.clock)) as cache:
        region = numbers(cache)
        for number in range(10):
            region.put(region.key(number, tags=(f"tag-{number}",)), number)
        stats: CacheStats = cache.stats()
        assert (stats.entries, stats.evictions) == (3, 7)
        # What has left has left the index too.
        assert len(cache._memory._dependents) == 4


def test_a_closed_cache_refreshes_nothing_and_raises_nothing(time: Time) -> None:
    cache = Cache(clock=time.clock)
    region, load = numbers(cache, Lifetime(ttl_s=60, jitter=0)), Loader(before=lambda: time.pass_s(2))
    region.get_or_load(region.key("a"), load)
    cache.close()
    time.pass_s(57.5)
    assert region.get_or_load(region.key("a"), load) == 1


def until_waiting(cache: Cache, misses: int) -> None:
    """Return once so many calls have missed; each of them then joins the load that is under way."""
    done = threading.Event()
    for _ in range(1_000):
        if sum(region.stats().misses for region in cache._regions) >= misses:
            return
        done.wait(0.01)
    raise AssertionError("the callers did not come")
