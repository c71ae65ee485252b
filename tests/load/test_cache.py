"""A cache that many threads use at once, far beyond its bounds: each gets its own values, and it keeps the bounds."""

import random
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from runtime.cache import Cache, Lifetime, Limits, Lru, MsgspecCodec, Policy, S3Fifo

THREADS = 16
CALLS = 5_000
KEYS = 2_000
LIMITS = Limits(entries=200)


@pytest.mark.parametrize("policy", [Lru, S3Fifo])
def test_threads_that_ask_for_more_than_it_holds_get_their_own_values(
    redis_url: str, policy: Callable[[Limits], Policy]
) -> None:
    loaded: Counter[int] = Counter()

    def load(number: int) -> list[int]:
        loaded.update([number])
        return [number, number * number]

    with closing(Cache.connect(redis_url, limits=LIMITS, policy=policy)) as cache:
        squares = cache.region("squares", MsgspecCodec(list[int]), Lifetime(ttl_s=600.0, early=0.0))

        def ask(thread: int) -> None:
            rng = random.Random(thread)
            for _ in range(CALLS):
                # A few are asked for often, most seldom.
                number = min(KEYS - 1, int(rng.paretovariate(0.5)))
                value = squares.get_or_load(squares.key(number), lambda number=number: load(number))  # type: ignore[misc]
                assert value == [number, number * number]

        with ThreadPoolExecutor(THREADS) as threads:
            list(threads.map(ask, range(THREADS)))
        stats = cache.stats()
    assert stats.entries <= LIMITS.entries
    assert stats.evictions > 0
    # Redis has what memory has no room for, so nothing is loaded twice.
    assert (stats.redis_errors, stats.damaged, stats.unstored) == (0, 0, 0)
    assert max(loaded.values()) == 1
    assert stats.loads == len(loaded)
