"""The cache that ``@cache_result`` uses where it is told of none: this process' own."""

import threading
import weakref
from typing import Protocol

from runtime.cache.cache import Cache


class Follower(Protocol):
    """What was bound to the cache of the process and has to be bound again when that changes."""

    def unbind(self) -> None:
        """Ask for the cache anew."""


_lock = threading.Lock()
_cache: Cache | None = None
_followers: "weakref.WeakSet[Follower]" = weakref.WeakSet()


def set_process_cache(cache: Cache | None) -> None:
    """Have decorated functions use this cache from now on; for the composition root. It stays the caller's to close.

    Until then, and with None, they use one of memory alone, with the limits by default.
    """
    global _cache
    with _lock:
        _cache = cache
        followers = list(_followers)
    for follower in followers:
        follower.unbind()


def process_cache(follower: Follower) -> Cache:
    """The cache of this process; ``follower`` is told when it changes."""
    global _cache
    with _lock:
        if _cache is None:
            _cache = Cache()
        _followers.add(follower)
        return _cache
