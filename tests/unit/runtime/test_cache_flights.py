"""Loads that are under way: who joins them, who does not, and none that is left behind."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import pytest

from runtime.cache import Cache, Lifetime, MsgspecCodec, Region
from tests.unit.runtime.caching import Loader, Time


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def cache(time: Time) -> Iterator[Cache]:
    with closing(Cache(clock=time.clock)) as cache:
        yield cache


def numbers(cache: Cache, early: float = 0) -> Region[int]:
    return cache.region("numbers", MsgspecCodec(int), Lifetime(ttl_s=60, jitter=0, early=early))


def test_a_load_that_ended_between_a_look_and_the_next_step_is_not_done_again(cache: Cache) -> None:
    region, load = numbers(cache), Loader()
    key, board = region.key("a"), cache._memory.board

    def late(*args: Any, **kwargs: Any) -> Any:
        cache._memory.board = board  # type: ignore[method-assign]
        assert region.get_or_load(key, load) == 1
        return board(*args, **kwargs)

    async def load_async() -> int:
        return load()

    cache._memory.board = late  # type: ignore[method-assign]  # the moment between two steps
    assert region.get_or_load(key, load) == 1
    cache.invalidate(key.name)
    load.calls = 0
    cache._memory.board = late  # type: ignore[method-assign]
    assert asyncio.run(region.get_or_load_async(key, load_async)) == 1
    assert load.calls == 1


def test_tasks_wait_for_a_refresh_that_outlives_the_value(cache: Cache, time: Time) -> None:
    region, calls = numbers(cache, early=1), 0
    key = region.key("a")

    async def run() -> list[int]:
        go, refreshing = asyncio.Event(), asyncio.Event()

        async def load() -> int:
            nonlocal calls
            calls += 1
            number = calls
            if number == 1:
                time.pass_s(2.0)
            else:
                refreshing.set()
                await go.wait()
            return number

        assert await region.get_or_load_async(key, load) == 1
        time.pass_s(57.5)
        assert await region.get_or_load_async(key, load) == 1
        await refreshing.wait()
        time.pass_s(10)
        tasks = [asyncio.create_task(region.get_or_load_async(key, load)) for _ in range(3)]
        await asyncio.sleep(0)
        go.set()
        return await asyncio.gather(*tasks)

    assert asyncio.run(run()) == [2, 2, 2]


@pytest.mark.timeout(30)
def test_who_puts_a_value_waits_for_no_load_of_it_and_is_not_overwritten_by_one(cache: Cache) -> None:
    region, loading, go = numbers(cache), threading.Event(), threading.Event()
    key = region.key("a")

    def before() -> None:
        loading.set()
        go.wait(10)

    with ThreadPoolExecutor(1) as threads:
        loaded = threads.submit(region.get_or_load, key, Loader(before))
        assert loading.wait(10)
        assert region.put(key, 100)
        # Nobody joins the load that is under way, nor waits for it.
        assert region.get_or_load(key, Loader(error=AssertionError("the loader ran"))) == 100
        go.set()
        assert loaded.result() == 1
    assert region.get(key) == 100


@pytest.mark.timeout(30)
@pytest.mark.parametrize("how", ["invalidate", "clear"])
def test_no_load_that_was_invalidated_is_left_behind_for_others_to_wait_for(cache: Cache, how: str) -> None:
    region, loading, go = numbers(cache), threading.Event(), threading.Event()
    key = region.key("a")

    def before() -> None:
        loading.set()
        go.wait(10)

    with ThreadPoolExecutor(2) as threads:
        threads.submit(region.get_or_load, key, Loader(before))
        assert loading.wait(10)
        cache.invalidate(key.name) if how == "invalidate" else cache.clear()
        try:
            assert threads.submit(region.get_or_load, key, lambda: 100).result(10) == 100
        finally:
            go.set()
    assert region.get(key) == 100
    assert not cache._memory._flights
