"""Sixteen threads on one hot key, beside one thread that makes as many calls."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Final

from benchmarks.figure import Bar, Figure, compare
from runtime.cache import Cache, Lifetime, Lru, MsgspecCodec, Policy, S3Fifo
from runtime.cache.entries import Limits

NAME: Final = "cache.contention"
THREADS: Final = 16
CALLS: Final = 320_000
TURNS: Final = 7


def measure() -> Iterator[Figure]:
    """Hits a second, and how often the loader ran that all of them need at once."""
    for name, policy in (("LRU", Lru), ("S3-FIFO", S3Fifo)):
        many, one, loads = [], [], []
        for _ in range(TURNS):
            rate, ran = hits_per_s(policy, THREADS)
            many.append(rate)
            loads.append(float(ran))
            one.append(hits_per_s(policy, 1)[0])
        yield compare(NAME, f"hits/s of {THREADS} threads, {name}", Bar("at least", 0.9), many, one, "one thread")
        yield compare(NAME, f"loads, {name}", Bar("at most", 1.0), loads, [1.0] * TURNS, "one load")


def hits_per_s(policy: Callable[[Limits], Policy], threads: int) -> tuple[float, int]:
    """The rate of all threads together from their common start, and the loads."""
    with closing(Cache(policy=policy)) as cache:
        region = cache.region("bench", MsgspecCodec(int), Lifetime(ttl_s=3600))
        key = region.key("hot")
        everybody = threading.Barrier(threads)
        begun_s, ended_s = [], []

        def load() -> int:
            time.sleep(0.05)
            return 7

        def call() -> None:
            everybody.wait()
            region.get_or_load(key, load)
            everybody.wait()
            # By the thread itself: it may be done before another one knows that it has begun.
            begun_s.append(time.perf_counter())
            for _ in range(CALLS // threads):
                region.get_or_load(key, load)
            ended_s.append(time.perf_counter())

        callers = [threading.Thread(target=call) for _ in range(threads)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
        return CALLS / (max(ended_s) - min(begun_s)), cache.stats().loads
