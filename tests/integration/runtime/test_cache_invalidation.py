"""Invalidation reaches the memory of every process, also of those that could not hear it."""

import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import ResponseError

from runtime.cache import BLIND_S, Cache, Clock, NotCacheable
from tests.integration.runtime.cache_sight import OpenCache, never, opener, texts, until
from tests.integration.runtime.redis_server import RedisServer, Way, redis_server, way_to


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def way(server: RedisServer) -> Iterator[Way]:
    with way_to(server) as way:
        yield way


@pytest.fixture
def open_cache(server: RedisServer) -> Iterator[OpenCache]:
    with server.client() as client:
        client.flushall()
    with opener(server.url) as open_cache:
        yield open_cache


@pytest.mark.parametrize("how", ["name", "tag", "prefix", "clear", "put"])
def test_every_process_forgets_at_once(open_cache: OpenCache, how: str) -> None:
    caches = [open_cache() for _ in range(3)]
    regions = [texts(cache) for cache in caches]
    key, other = (
        regions[0].key("a", tags=("model",)),
        caches[0].region("other", regions[0]._recipe.codec, regions[0]._recipe.lifetime),
    )
    for region in regions:
        region.get_or_load(key, lambda: "old")
    other.put(other.key("b"), "kept")

    match how:
        case "name":
            assert caches[0].invalidate(key.name)
        case "tag":
            assert caches[0].invalidate_tags("model")
        case "prefix":
            assert caches[0].invalidate_prefix("texts")
        case "clear":
            assert caches[0].clear()
        case _:
            assert regions[0].put(key, "new")

    expected = "new" if how == "put" else None
    assert regions[0].get(key) == expected
    until(lambda: all(region.get(key) == expected for region in regions))
    assert other.get(other.key("b")) == (None if how == "clear" else "kept")


def test_what_was_invalidated_while_a_process_could_not_hear_is_gone_after_it_reconnects(
    open_cache: OpenCache, way: Way
) -> None:
    deaf, other = open_cache(way.url), open_cache()
    one, two = texts(deaf), texts(other)
    key = one.key("a")
    one.get_or_load(key, lambda: "old")
    gaps = deaf.stats().gaps

    way.hang_up()
    two.put(key, "new")
    way.release()
    until(lambda: deaf.stats().gaps > gaps)

    until(lambda: deaf.stats().redis_answers)
    until(lambda: one.get(key) == "new")
    assert other.stats().gaps == 1


class Shifted:
    """The clock of a process, which can be moved."""

    def __init__(self) -> None:
        self.by_s = 0.0
        self.clock = Clock(monotonic_s=lambda: time.monotonic() + self.by_s)


def test_memory_that_has_not_heard_from_redis_is_believed_no_longer_than_the_bound(
    open_cache: OpenCache, way: Way
) -> None:
    shifted = Shifted()
    blind = open_cache(way.url, clock=shifted.clock)
    region = texts(blind)
    key = region.key("a")
    region.get_or_load(key, lambda: "old")
    # A connection that is not closed and says nothing, as when a cable is pulled.
    way.hold()
    assert region.get_or_load(key, never) == "old"

    shifted.by_s += BLIND_S + 0.1

    assert not blind.stats().listening
    assert region.get_or_load(key, lambda: "new") == "new"


def test_without_redis_values_are_kept_for_the_bound_alone(tmp_path: Path) -> None:
    shifted = Shifted()
    with redis_server(tmp_path) as gone:
        gone.stop()
        with closing(Cache.connect(gone.url, clock=shifted.clock)) as cache:
            region = texts(cache)
            key = region.key("a")
            assert [region.get_or_load(key, lambda: "first"), region.get_or_load(key, never)] == ["first", "first"]
            shifted.by_s += BLIND_S
            assert region.get_or_load(key, lambda: "second") == "second"


def test_an_invalidation_that_redis_did_not_take_is_repeated_and_nothing_is_read_until_then(
    open_cache: OpenCache, way: Way
) -> None:
    cut, other = open_cache(way.url), open_cache()
    one, two = texts(cut), texts(other)
    key = one.key("a")
    one.get_or_load(key, lambda: "old")
    two.get_or_load(key, never)

    way.hang_up()
    assert cut.invalidate(key.name) is False
    assert one.get_or_load(key, lambda: "new") == "new"
    assert cut.stats().undelivered == 1
    way.release()

    until(lambda: cut.stats().undelivered == 0)
    until(lambda: two.get(key) is None)


def test_more_invalidations_than_are_remembered_become_everything(
    open_cache: OpenCache, way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runtime.cache.redis_tier.UNDELIVERED_NAMES", 3)
    cut, other = open_cache(way.url), texts(open_cache())
    key = other.key("unnamed")
    other.get_or_load(key, lambda: "old")
    way.hang_up()
    for number in range(5):
        assert not cut.invalidate_tags(f"tag-{number}")
    assert cut.stats().undelivered == 1
    way.release()
    until(lambda: other.get(key) is None)


def test_an_invalidation_that_comes_while_redis_is_read_keeps_the_old_value_out_of_memory(
    open_cache: OpenCache, way: Way
) -> None:
    slow, other = open_cache(way.url), texts(open_cache())
    region = texts(slow)
    key = region.key("a")
    other.put(key, "old")
    until(lambda: slow.stats().invalidations == 1)
    read, told = threading.Event(), threading.Event()
    tier = slow._tiers.redis
    assert tier is not None
    answered = tier._reads.ask

    def mget(*command: str) -> object:
        values = answered(*command)
        read.set()
        told.wait(10)
        return values

    tier._reads.ask = mget  # type: ignore[method-assign]  # the moment between two steps
    reading = threading.Thread(target=lambda: region.get(key))
    reading.start()
    assert read.wait(10)
    other.put(key, "new")
    until(lambda: slow.stats().invalidations == 2)
    told.set()
    reading.join()
    tier._reads.ask = answered  # type: ignore[method-assign]
    assert region.get(key) == "new"


def test_garbage_on_the_channel_empties_memory_and_harms_nothing(open_cache: OpenCache, server: RedisServer) -> None:
    cache = open_cache()
    region = texts(cache)
    region.put(region.key("a"), "value")
    with server.client() as client:
        client.publish("headrace-cache:invalidated", b"\xff\xfe")
    until(lambda: cache.stats().entries == 0)
    assert region.get(region.key("a")) == "value"
    assert cache.stats().listening


def test_a_cache_that_is_closed_leaves_no_thread_and_no_connection(server: RedisServer) -> None:
    def clients() -> int:
        with server.client() as client:
            return len(client.client_list())

    before, threads = clients(), threading.active_count()
    cache = Cache.connect(server.url)
    until(lambda: cache.stats().listening)
    region = texts(cache)
    region.put(region.key("a"), "value")
    begun_s = time.monotonic()
    cache.close()
    assert time.monotonic() - begun_s < 5
    assert threading.active_count() == threads
    until(lambda: clients() == before)


def test_namespaces_do_not_see_each_other(open_cache: OpenCache, server: RedisServer) -> None:
    one, two = texts(open_cache(namespace="one")), texts(open_cache(namespace="two"))
    one.put(one.key("a"), "value")
    assert two.get(two.key("a")) is None
    with server.client() as client:
        assert {key.split(b":")[0] for key in client.scan_iter("*")} == {b"one"}


@pytest.mark.parametrize("protocol", [2, 3])
def test_a_client_of_either_protocol_will_do(server: RedisServer, open_cache: OpenCache, protocol: int) -> None:
    other = open_cache()
    with closing(Cache(Redis.from_url(server.url, protocol=protocol))) as cache:
        until(lambda: cache.stats().listening)
        region = texts(cache)
        region.put(region.key("a"), "old")
        texts(other).put(region.key("a"), "new")
        until(lambda: region.get(region.key("a")) == "new")


def test_a_client_that_decodes_is_refused(server: RedisServer) -> None:
    with (
        Redis.from_url(server.url, decode_responses=True) as client,
        pytest.raises(ValueError, match="decode_responses"),
    ):
        Cache(client)


def test_what_is_invalidated_again_while_it_is_told_is_told_again(open_cache: OpenCache, way: Way) -> None:
    cache = open_cache(way.url)
    tier = cache._redis
    assert tier is not None
    untroubled(cache)
    told, deletes = [], tier._delete

    def delete(names: frozenset[str | None]) -> bool:
        told.append(names)
        done = deletes(names)
        if len(told) == 1:
            way.hang_up()
            assert not cache.invalidate("t:model")
        return done

    tier._delete = delete  # type: ignore[method-assign]  # the moment between two steps
    cache.invalidate("t:model")
    assert cache.stats().undelivered == 1
    way.release()
    until(tier.deliver)
    assert cache.stats().undelivered == 0


def test_who_invalidates_is_told_of_its_own_names_alone(open_cache: OpenCache) -> None:
    cache = open_cache()
    tier = cache._redis
    assert tier is not None
    untroubled(cache)
    deletes, go = tier._delete, threading.Event()

    def delete(names: frozenset[str | None]) -> bool:
        if "t:one" in names:
            # Another thread's, which comes while this one's are told.
            tier._delete = held  # type: ignore[method-assign]
            other.start()
            until(lambda: cache.stats().undelivered == 2)
        return deletes(names)

    def held(names: frozenset[str | None]) -> bool:
        go.wait(10)
        return deletes(names)

    other = threading.Thread(target=cache.invalidate, args=("t:two",))
    tier._delete = delete  # type: ignore[method-assign]  # the moment between two steps
    assert cache.invalidate("t:one")
    go.set()
    other.join()
    until(lambda: cache.stats().undelivered == 0)


def test_nothing_is_read_as_a_lease_is_taken_until_redis_has_been_told(open_cache: OpenCache) -> None:
    cache, other = open_cache(), texts(open_cache())
    region, tier = texts(cache), cache._redis
    assert tier is not None
    key, deletes = region.key("a"), tier._delete
    other.put(key, "old")

    def refuse(_: frozenset[str | None]) -> bool:
        raise ResponseError("not now")

    # It takes everything else.
    tier._delete = refuse  # type: ignore[method-assign, assignment]
    assert not cache.invalidate(key.name)
    assert region.get_or_load(key, lambda: "new") == "new"
    tier._delete = deletes  # type: ignore[method-assign]
    until(lambda: cache.stats().undelivered == 0)


def test_a_listener_that_fails_begins_anew(open_cache: OpenCache, caplog: pytest.LogCaptureFixture) -> None:
    cache, other = open_cache(), texts(open_cache())
    region, listener = texts(cache), cache._listener
    assert listener is not None
    key, tell = region.key("a"), listener._tell
    region.put(key, "old")

    def fail(_: list[object]) -> None:
        listener._tell = tell  # type: ignore[method-assign]
        raise AttributeError("'NoneType' object has no attribute 'recv'")

    listener._tell = fail  # type: ignore[method-assign, assignment]  # as of a socket that is closed as it is read
    gaps = cache.stats().gaps
    other.put(key, "new")
    until(lambda: cache.stats().gaps > gaps)
    until(lambda: region.get(key) == "new")
    assert "begins anew" in caplog.text


@pytest.mark.parametrize("name", ["t:\ud800", 5])
def test_what_can_not_be_told_is_refused_and_troubles_nobody(open_cache: OpenCache, name: Any) -> None:
    cache = open_cache()
    region = texts(cache)
    region.put(region.key("a"), "value")
    with pytest.raises(NotCacheable, match="is no name"):
        cache.invalidate(name)
    assert cache.stats().undelivered == 0
    assert texts(open_cache()).get(region.key("a")) == "value"


def untroubled(cache: Cache) -> None:
    """Have nothing told by the listener's thread, whose turn might come in the middle of a test."""
    assert cache._listener is not None
    cache._listener._on_tick = lambda: None
