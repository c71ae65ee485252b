"""Pools in a process that was forked: each is told, in the child, before anything else runs there."""

import os
import weakref
from functools import cache
from typing import Final, Protocol


class Forkable(Protocol):
    """Something that must not go on in a child as if it were alone."""

    def forked(self) -> None:
        """In the child, just after the fork: the parent's connections and locks are not ours."""


_OPENED: Final[weakref.WeakSet[Forkable]] = weakref.WeakSet()


def tell_of_forks(pool: Forkable) -> None:
    """Call ``pool.forked()`` in every child that this process forks as long as the pool is there."""
    _listen()
    _OPENED.add(pool)


@cache  # there is no way to stop listening, so once
def _listen() -> None:
    os.register_at_fork(after_in_child=_forked)


def _forked() -> None:
    for pool in list(_OPENED):
        pool.forked()
