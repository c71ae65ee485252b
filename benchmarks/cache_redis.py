"""A hit of the Redis tier, beside a bare ``GET`` by redis-py with the same decoding."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from statistics import median
from typing import Final

import msgspec
from msgspec import Struct
from redis import Redis

from benchmarks.figure import RUNS, Bar, Figure, compare
from runtime.cache import Cache, Lifetime, MsgspecCodec

NAME: Final = "cache.redis"
#: Bytes of the text, and calls of each in a run.
SIZES: Final = {"300 B": (300, 3_000), "1 MB": (1_000_000, 200)}
BARE: Final = "headrace-bench-bare"
NAMESPACE: Final = "headrace-bench"


class Answer(Struct, frozen=True):
    """What is kept."""

    id: int
    text: str


def measure() -> Iterator[Figure]:
    """Medians of calls that take turns one by one: here a process' speed changes within milliseconds."""
    url = os.environ["HEADRACE_REDIS"]
    with closing(Cache.connect(url, namespace=NAMESPACE)) as cache, Redis.from_url(url) as bare:
        region = cache.region("bench", MsgspecCodec(Answer), Lifetime(ttl_s=3600))
        decoder = msgspec.msgpack.Decoder(Answer)
        for name, (size_bytes, calls) in SIZES.items():
            key, answer = region.key(size_bytes), Answer(7, "x" * size_bytes)
            region.put(key, answer)
            bare.set(BARE, msgspec.msgpack.encode(answer), ex=3600)
            ours, peer = [], []
            for _ in range(RUNS):
                mine, theirs = call_us(
                    calls,
                    partial(region.get, key),
                    lambda: decoder.decode(bare.get(BARE)),
                    between=lambda: cache._memory.clear(),
                )
                ours.append(mine)
                peer.append(theirs)
            yield compare(NAME, f"µs a hit of {name}", Bar("at most", 1.3), ours, peer, "redis-py GET, decoded")
        cache.clear()
        bare.delete(BARE)


def call_us(
    calls: int, one: Callable[[], object], other: Callable[[], object], between: Callable[[], object]
) -> tuple[float, float]:
    """Medians of both in microseconds. ``between`` is not timed: it empties memory, so that Redis has to answer."""
    ones, others = [], []
    for _ in range(calls):
        between()
        begun_s = time.perf_counter()
        one()
        between_s = time.perf_counter()
        other()
        others.append(time.perf_counter() - between_s)
        ones.append(between_s - begun_s)
    return median(ones) * 1e6, median(others) * 1e6
