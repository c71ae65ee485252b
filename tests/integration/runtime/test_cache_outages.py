"""Redis away, slow, full or read-only: nothing is wrong, only slower, and it heals by itself."""

import os
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from runtime.cache import Cache, Lifetime, MsgspecCodec
from runtime.cache.breaker import STRIKES
from runtime.cache.cache import ANSWER_S
from tests.integration.runtime.cache_sight import OpenCache, never, opener, texts, until
from tests.integration.runtime.redis_server import RedisServer, Way, redis_server, way_to


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path) as server:
        yield server


@pytest.fixture
def way(server: RedisServer) -> Iterator[Way]:
    with way_to(server) as way:
        yield way


@pytest.fixture
def open_cache(server: RedisServer) -> Iterator[OpenCache]:
    with opener(server.url) as open_cache:
        yield open_cache


def test_a_redis_that_dies_is_left_alone_and_found_again(open_cache: OpenCache, server: RedisServer) -> None:
    cache = open_cache()
    region = texts(cache)
    region.get_or_load(region.key(0), lambda: "before")
    server.stop()

    for number in range(1, 50):
        assert region.get_or_load(region.key(number), lambda: "without") == "without"
    stats = cache.stats()
    assert not stats.redis_answers
    # Left alone: but for a try now and then nobody has waited for it.
    assert stats.redis_errors < 4 * STRIKES

    server.start()
    until(lambda: cache.stats().listening)
    until(lambda: region.put(region.key("a"), "after"))
    assert cache.stats().redis_answers
    assert texts(open_cache()).get_or_load(region.key("a"), never) == "after"


def test_a_redis_that_answers_nothing_is_waited_for_a_few_times_only(open_cache: OpenCache, way: Way) -> None:
    cache = open_cache(way.url)
    region = texts(cache)
    way.hold()
    begun_s = time.monotonic()
    for number in range(30):
        assert region.get_or_load(region.key(number), lambda: "without") == "without"
    assert time.monotonic() - begun_s < (STRIKES + 3) * ANSWER_S
    way.release()
    until(lambda: region.put(region.key("a"), "after"))


def test_memory_goes_on_while_redis_is_away(open_cache: OpenCache, server: RedisServer) -> None:
    region = texts(open_cache())
    region.put(region.key("a"), "value")
    server.stop()
    assert region.get_or_load(region.key("a"), never) == "value"


def test_a_full_redis_is_read_and_invalidated_but_not_written(open_cache: OpenCache, server: RedisServer) -> None:
    cache, other = open_cache(), open_cache()
    region = texts(cache)
    region.put(region.key("old"), "value")
    with server.client() as client:
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", "1mb")

        for number in range(10):
            assert region.get_or_load(region.key(number), lambda: "without") == "without"
        assert not cache.stats().redis_writable
        assert cache.stats().redis_answers
        assert texts(other).get_or_load(region.key("old"), never) == "value"
        assert cache.invalidate(region.key("old").name)
        assert cache.invalidate_prefix("texts")
        until(lambda: texts(other).get(region.key("old")) is None)

        client.config_set("maxmemory", "0")
    until(lambda: region.put(region.key("new"), "after"))
    assert cache.stats().redis_writable


def test_a_redis_that_may_only_be_read_is_read_until_something_has_to_be_deleted(
    open_cache: OpenCache, server: RedisServer
) -> None:
    cache, other = open_cache(), open_cache()
    region = texts(cache)
    region.put(region.key("old"), "value")
    with server.client() as client:
        # A replica, of nobody who answers: it keeps what it has, and refuses to be written.
        client.replicaof("127.0.0.1", 1)

        assert region.get_or_load(region.key("new"), lambda: "without") == "without"
        assert texts(other).get_or_load(region.key("old"), never) == "value"
        assert not cache.invalidate(region.key("old").name)
        assert region.get_or_load(region.key("old"), lambda: "new") == "new"

        client.replicaof("NO", "ONE")
    until(lambda: cache.stats().undelivered == 0)
    until(lambda: texts(other).get(region.key("old")) is None)
    until(lambda: region.put(region.key("old"), "newest"))


def test_a_value_that_takes_redis_long_is_kept_in_memory_all_the_same(open_cache: OpenCache) -> None:
    cache = open_cache()
    region = cache.region("large", MsgspecCodec(bytes), Lifetime(ttl_s=60))
    value = os.urandom(8 * 1024 * 1024)
    region.put(region.key(1), value)
    other = open_cache().region("large", MsgspecCodec(bytes), Lifetime(ttl_s=60))
    assert other.get(other.key(1)) == value


@pytest.mark.parametrize("answer", [b"$abc\r\n", b":x\r\n", b"*x\r\n", b"HTTP/1.1 400 Bad\r\n\r\n", b"+OK\r\n"])
def test_a_server_that_answers_something_else_is_no_error(answer: bytes) -> None:
    class Other(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with suppress(OSError):
                while self.request.recv(65_536):
                    self.request.sendall(answer)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Other) as other:
        threading.Thread(target=other.serve_forever, args=(0.01,), daemon=True).start()
        try:
            with closing(Cache.connect(f"redis://127.0.0.1:{other.server_address[1]}/0")) as cache:
                region = texts(cache)
                assert region.get_or_load(region.key("a"), lambda: "loaded") == "loaded"
                cache.invalidate_prefix("texts")
        finally:
            other.shutdown()


def test_a_server_that_is_no_redis_is_no_error(way: Way) -> None:
    way.hang_up()
    with closing(Cache.connect(way.url)) as cache:
        region = texts(cache)
        assert region.get(region.key("a")) is None
        assert region.put(region.key("a"), "value") is False
        assert region.get(region.key("a")) == "value"
