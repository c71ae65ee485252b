"""The cache's tier in a real Redis: what is shared, what is damaged, and who may store."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from msgspec import Struct
from redis import Redis

from runtime.cache import Cache, Key, Lifetime, MsgspecCodec, NotCacheable
from runtime.cache.redis_tier import LEASE_S, Found
from runtime.cache.tensors import TensorsCodec
from tests.integration.runtime.cache_sight import LIFETIME, OpenCache, never, opener, texts, until


@pytest.fixture
def open_cache(redis_url: str) -> Iterator[OpenCache]:
    with opener(redis_url) as open_cache:
        yield open_cache


@pytest.fixture
def client(redis_url: str) -> Iterator["Redis"]:
    with Redis.from_url(redis_url) as client:
        yield client


def stored(name: str) -> str:
    return f"headrace-cache:{name}"


def test_what_one_process_has_loaded_another_reads(open_cache: OpenCache) -> None:
    one, two = texts(open_cache()), texts(open_cache())
    assert one.get_or_load(one.key("a"), lambda: "loaded") == "loaded"
    assert two.get_or_load(two.key("a"), never) == "loaded"


def test_a_task_reads_and_stores_the_same(open_cache: OpenCache) -> None:
    import asyncio

    one, two = texts(open_cache()), texts(open_cache())

    async def load() -> str:
        return "loaded"

    async def fail() -> str:
        return never()

    async def run() -> tuple[str, str, str | None]:
        loaded = await one.get_or_load_async(one.key("a"), load)
        read = await two.get_or_load_async(two.key("a"), fail)
        await two.put_async(two.key("a"), "put")
        return loaded, read, two.get(two.key("a"))

    assert asyncio.run(run()) == ("loaded", "loaded", "put")


def test_everything_in_redis_runs_out(open_cache: OpenCache, client: "Redis") -> None:
    cache = open_cache()
    region = cache.region("texts", MsgspecCodec(str), Lifetime(ttl_s=60, stale_s=30))
    region.get_or_load(region.key("a", tags=("t",)), lambda: "loaded")
    lives = {key: client.ttl(key) for key in client.scan_iter("*")}
    assert len(lives) == 3
    assert all(life > 0 for life in lives.values())
    assert max(life for key, life in lives.items() if b":e:" in key) <= 90


@pytest.mark.parametrize("harm", ["flipped", "cut", "foreign", "list", "empty", "other"])
def test_a_damaged_entry_is_a_miss_and_is_counted(open_cache: OpenCache, client: "Redis", harm: str) -> None:
    one, reader = texts(open_cache()), open_cache()
    key = one.key("a")
    one.get_or_load(key, lambda: "loaded")
    name = stored(key.name)
    value = client.get(name)
    assert isinstance(value, bytes)
    match harm:
        case "flipped":
            client.set(name, value[:-1] + b"!")
        case "cut":
            client.set(name, value[:-1])
        case "foreign":
            client.set(name, b"\x80\x04\x95")
        case "empty":
            client.set(name, b"")
        case "other":
            one.get_or_load(one.key("b"), lambda: "other")
            client.copy(stored(one.key("b").name), name, replace=True)
        case _:
            client.delete(name)
            client.rpush(name, "x")

    two = texts(reader)
    assert two.get_or_load(key, lambda: "again") == "again"
    # A list is none of our entries, and Redis gives nothing of it.
    assert reader.stats().damaged == (1 if harm != "list" else 0)
    assert texts(open_cache()).get_or_load(key, never) == "again"


def test_another_form_of_the_type_is_a_miss(open_cache: OpenCache) -> None:
    one, two = open_cache(), open_cache()
    old, new = one.region("n", MsgspecCodec(int), LIFETIME), two.region("n", MsgspecCodec(int | None), LIFETIME)
    old.put(old.key(1), 1)
    assert new.get(new.key(1)) is None
    assert two.stats().outdated == 1


class Nothing(Exception):
    """There is nothing."""


def test_that_there_is_nothing_is_shared(open_cache: OpenCache) -> None:
    def missing() -> str:
        raise Nothing("no such model")

    def region(cache: Cache) -> Any:
        return cache.region("texts", MsgspecCodec(str), Lifetime(ttl_s=60, absent_s=30), absent=Nothing)

    one, two = region(open_cache()), region(open_cache())
    with pytest.raises(Nothing, match="no such model"):
        one.get_or_load(one.key("a"), missing)
    with pytest.raises(Nothing, match="no such model"):
        two.get_or_load(two.key("a"), never)
    assert two.get_or_load(two.key("b"), lambda: None) is None
    assert one.get_or_load(one.key("b"), never) is None


def test_tensors_are_shared(open_cache: OpenCache) -> None:
    one, two = (open_cache().region("tensors", TensorsCodec(), LIFETIME) for _ in range(2))
    one.put(one.key(1), {"w": np.arange(4.0)})
    found = two.get(two.key(1))
    assert found is not None
    assert found["w"].tolist() == [0.0, 1.0, 2.0, 3.0]


def test_a_value_that_the_codec_does_not_take_is_an_error_and_holds_up_nobody(open_cache: OpenCache) -> None:
    class Odd(Struct):
        x: object

    region = open_cache().region("odd", MsgspecCodec(Odd), LIFETIME)
    with pytest.raises(NotCacheable, match="can't be kept"):
        region.get_or_load(region.key(1), lambda: Odd(object()))
    assert region.get_or_load(region.key(1), lambda: Odd(1)).x == 1


def test_processes_load_one_value_once(open_cache: OpenCache) -> None:
    regions, calls, go = [texts(open_cache()) for _ in range(4)], [], threading.Event()

    def load() -> str:
        calls.append(1)
        go.wait(10)
        return "loaded"

    with ThreadPoolExecutor(8) as threads:
        values = [threads.submit(region.get_or_load, region.key("a"), load) for region in regions * 2]
        until(lambda: bool(calls))
        go.set()
        assert {each.result() for each in values} == {"loaded"}
    assert len(calls) == 1


def test_an_error_gives_the_lease_to_the_next(open_cache: OpenCache) -> None:
    one, two = texts(open_cache()), texts(open_cache())

    def fail() -> str:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        one.get_or_load(one.key("a"), fail)
    assert two.get_or_load(two.key("a"), lambda: "loaded") == "loaded"


def test_a_lease_whose_holder_died_runs_out_and_another_loads(open_cache: OpenCache, client: "Redis") -> None:
    region = texts(open_cache())
    key = region.key("a")
    lease = stored("l" + key.name[1:])
    client.set(lease, b"of a dead process", px=300)
    assert region.get_or_load(key, lambda: "loaded") == "loaded"


def test_a_lease_is_renewed_while_its_loader_runs(open_cache: OpenCache, client: "Redis") -> None:
    region, go = texts(open_cache()), threading.Event()
    key = region.key("a")
    lease = stored("l" + key.name[1:])

    def load() -> str:
        go.wait(20)
        return "loaded"

    with ThreadPoolExecutor(1) as threads:
        loading = threads.submit(region.get_or_load, key, load)
        until(lambda: bool(client.exists(lease)))
        client.pexpire(lease, 3_000)
        until(lambda: client.pttl(lease) > 1_000 * (LEASE_S - 1))
        go.set()
        loading.result()
    assert not client.exists(lease)


def test_whoever_waits_too_long_for_another_process_loads_too(open_cache: OpenCache, client: "Redis") -> None:
    region = texts(open_cache(), Lifetime(ttl_s=60, wait_s=0.05))
    key = region.key("a")
    client.set(stored("l" + key.name[1:]), b"of a process that hangs", px=60_000)
    assert region.get_or_load(key, lambda: "loaded") == "loaded"
    assert not client.exists(stored(key.name))


def test_a_refresh_takes_what_another_process_has_refreshed(open_cache: OpenCache) -> None:
    lifetime = Lifetime(ttl_s=4, jitter=0, early=1_000)
    one, two = texts(open_cache(), lifetime), texts(open_cache(), lifetime)

    def slow() -> str:
        threading.Event().wait(0.05)
        return "first"

    key = one.key("a")
    one.get_or_load(key, slow)
    two.get_or_load(key, never)
    # Both are due after half of their life; whoever comes second finds the other's.
    until(lambda: one.get_or_load(key, lambda: "second") == "second")
    until(lambda: two.get_or_load(key, never_refreshed) == "second")


def never_refreshed() -> str:
    """A refresh that finds nothing newer would keep this."""
    return "third"


@pytest.mark.parametrize("forget", ["name", "tag", "prefix"])
def test_a_load_that_began_before_an_invalidation_stores_nothing_that_is_read(
    open_cache: OpenCache, forget: str
) -> None:
    holder, other = open_cache(), open_cache()
    one, two = texts(holder), texts(other)
    key = one.key("a", tags=("model",))
    ways: dict[str, Callable[[], bool]] = {
        "name": lambda: other.invalidate(key.name),
        "tag": lambda: other.invalidate_tags("model"),
        "prefix": lambda: other.invalidate_prefix("texts"),
    }

    def load() -> str:
        # What it gives was read before; then comes the invalidation.
        assert ways[forget]()
        return "old"

    assert one.get_or_load(key, load) == "old"

    assert two.get_or_load(key, lambda: "new") == "new"
    assert texts(open_cache()).get_or_load(key, never) == "new"


def test_a_put_is_not_overwritten_by_a_load_that_began_before_it(open_cache: OpenCache) -> None:
    one, two = texts(open_cache()), texts(open_cache())
    key = one.key("a")

    def load() -> str:
        assert two.put(key, "put")
        return "old"

    assert one.get_or_load(key, load) == "old"
    assert two.get(key) == "put"
    assert texts(open_cache()).get_or_load(key, never) == "put"


def test_who_waits_for_a_read_of_a_value_past_its_time_loads_it(open_cache: OpenCache) -> None:
    cache = open_cache()
    lifetime = Lifetime(ttl_s=0.2, jitter=0, early=0, stale_s=60)
    writer, region = texts(open_cache(), lifetime), texts(cache, lifetime)
    key = region.key("a")
    writer.put(key, "old")
    until(lambda: writer.get(key) is None)
    read, waits = threading.Event(), threading.Event()
    tier = cache._redis
    assert tier is not None
    answered = tier.read

    def slow(key: Key) -> Found | None:
        found = answered(key)
        if not read.is_set():
            read.set()
            waits.wait(10)
        return found

    tier.read = slow  # type: ignore[method-assign]  # the moment between two steps
    with ThreadPoolExecutor(2) as threads:
        peeked = threads.submit(region.get, key)
        assert read.wait(10)
        loaded = threads.submit(region.get_or_load, key, lambda: "new")
        until(lambda: region.stats().misses == 1)
        waits.set()
        assert (peeked.result(), loaded.result()) == (None, "new")
