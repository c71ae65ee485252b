"""What the tests of the cache on Redis share: caches that are opened and closed, and waits for what is to happen."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from runtime.cache import Cache, Lifetime, MsgspecCodec, Region

WAIT_S = 20.0
LIFETIME = Lifetime(ttl_s=600, jitter=0, early=0)

OpenCache = Callable[..., Cache]


@contextmanager
def opener(url: str) -> Iterator[OpenCache]:
    """Opens caches as processes would, which hear of invalidations once they are given out."""
    with ExitStack() as stack:

        def open_cache(url: str = url, *, hears: bool = True, **options: Any) -> Cache:
            cache = Cache.connect(url, **options)
            stack.callback(cache.close)
            if hears:
                until(lambda: cache.stats().listening)
            return cache

        yield open_cache


def texts(cache: Cache, lifetime: Lifetime = LIFETIME) -> Region[str]:
    """The region of most tests."""
    return cache.region("texts", MsgspecCodec(str), lifetime)


def until(condition: Callable[[], bool]) -> None:
    """Return once it is so."""
    deadline_s = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline_s, "it did not happen"
        time.sleep(0.005)


def never() -> str:
    """A loader that is not to be called."""
    raise AssertionError("the loader ran")
