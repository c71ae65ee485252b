"""The errors of pools, and how a message shows who holds what.

::

    HeadraceError
    └── PoolError
        ├── PoolTimeout         nothing came free in time (retryable)
        ├── PoolOverloaded      as many wait as may wait (retryable)
        ├── PoolClosed          the pool takes no borrowers any more
        ├── PoolMisused         from another event loop, or from a process that may not use it
        └── ReservationTooLarge no device has so much memory
"""

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from runtime.pools.stats import PoolStats
from schemas.errors import HeadraceError

#: So many holders are named in a message, those first that hold for longest.
SHOWN_HOLDERS: Final = 3


class Holding(Struct, frozen=True):
    """What one borrower holds, for how long, and where it borrowed, if that was captured."""

    holder: str
    held_s: float
    what: str = "a connection"
    stack: str = ""

    def __str__(self) -> str:
        where = f", borrowed at\n{self.stack}" if self.stack else ""
        return f"{self.holder} holds {self.what} for {self.held_s:.3g} s{where}"


class PoolError(HeadraceError):
    """A pool can't lend what it was asked for."""

    code = "pool"


class PoolTimeout(PoolError):
    """Nothing came free in time (retryable); ``holdings`` says who has it all."""

    code = "pool_timeout"
    retryable = True

    def __init__(self, name: str, timeout_s: float, state: str, holdings: Sequence[Holding]) -> None:
        self.holdings = tuple(holdings)
        super().__init__(
            f"Nothing of pool {name!r} came free within {timeout_s:g} s: {state}. "
            f"{longest(self.holdings)}Hold for a shorter time, or make it larger."
        )


class PoolOverloaded(PoolError):
    """As many wait as may wait (retryable): one more would only wait in vain."""

    code = "pool_overloaded"
    retryable = True

    def __init__(self, name: str, limit: int, state: str, holdings: Sequence[Holding]) -> None:
        self.holdings = tuple(holdings)
        super().__init__(
            f"Pool {name!r} lets {limit:,} borrowers wait, and so many do: {state}. "
            f"{longest(self.holdings)}Come back later, or make it larger."
        )


class PoolClosed(PoolError):
    """The pool was closed: nobody is lent anything any more."""

    code = "pool_closed"

    def __init__(self, name: str) -> None:
        super().__init__(f"Pool {name!r} is closed. Borrow before its owner closes it, or open another.")


class PoolMisused(PoolError):
    """The pool belongs to another event loop, or to the process that this one was forked from."""

    code = "pool_misused"


class ReservationTooLarge(PoolError):
    """No device has so much memory, even when nobody else has any."""

    code = "reservation_too_large"

    def __init__(self, wanted_bytes: int, largest_bytes: int, where: str) -> None:
        super().__init__(
            f"A reservation of {wanted_bytes:,} bytes fits nowhere: {where} has {largest_bytes:,} in all. "
            "Ask for less, or for another device."
        )


def occupied(stats: PoolStats) -> str:
    """How full a pool is, for messages."""
    return f"size {stats.size} of {stats.limit}, {stats.in_use} in use, {stats.idle} idle, {stats.waiting} waiting"


def longest(holdings: Sequence[Holding]) -> str:
    """Some of those who have it, for messages."""
    return f"{'; '.join(map(str, holdings[:SHOWN_HOLDERS]))}. " if holdings else ""
