"""What a borrower has in hand: a connection, and the two ways to part with it.

The pools know these and they know the pools: they are one thing in several files.
"""

from collections.abc import Generator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic

from runtime.pools.errors import PoolMisused
from runtime.pools.ledger import Connection, Place

if TYPE_CHECKING:
    from runtime.pools.async_pool import AsyncPool
    from runtime.pools.pool import Pool


class Lent(Generic[Connection]):
    """A connection that is lent until it is given back: ``with pool.borrow() as connection``.

    Leaving the block by an exception discards the connection, unless the pool knows better: an answer may be half
    read, and would be taken for the next borrower's.
    """

    __slots__ = ("_place", "_pool", "connection")

    def __init__(self, pool: "Pool[Connection]", place: Place[Connection]) -> None:
        self._pool = pool
        self._place: Place[Connection] | None = place
        self.connection = place.connection

    def give_back(self) -> None:
        """The connection works and is in a known state: for the next. A second time does nothing."""
        self._pool._take_back(self)

    def discard(self) -> None:
        """The connection is broken, or in an unknown state: close it. A second time does nothing."""
        self._pool._discard_lent(self)

    def __enter__(self) -> Connection:
        if self._place is None:
            raise PoolMisused(f"A connection of pool {self._pool.name!r} was given back before. Borrow it again.")
        return self.connection

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if error is None or self._pool._survives(error):
            self._pool._take_back(self)
        else:
            self._pool._discard_lent(self)

    def __del__(self) -> None:
        # The collector may call this in any thread, also in one that has the pool's lock.
        if self._place is not None:
            self._pool._abandoned.append(self._place)


class AsyncLent(Generic[Connection]):
    """A connection that is lent until it is given back: ``async with pool.borrow() as connection``.

    Or ``lent = await pool.borrow()``, then ``lent.connection`` and ``lent.give_back()``. Leaving the block by an
    exception, a cancellation too, discards the connection, unless the pool knows better: an answer may be half read,
    and would be taken for the next borrower's.
    """

    __slots__ = ("_place", "_pool", "_timeout_s", "connection")
    connection: Connection

    def __init__(self, pool: "AsyncPool[Connection]", timeout_s: float | None) -> None:
        self._pool = pool
        self._timeout_s = timeout_s
        self._place: Place[Connection] | None = None

    def give_back(self) -> None:
        """The connection works and is in a known state: for the next. A second time does nothing."""
        place, self._place = self._place, None
        if place is not None:
            self._pool._give_back(place)

    async def discard(self) -> None:
        """The connection is broken, or in an unknown state: close it. A second time does nothing.

        It is closed, and its place becomes free, also where the borrower is cancelled meanwhile.
        """
        place, self._place = self._place, None
        if place is not None and place.holder is not None:  # None: the parent's, in a child
            await self._pool._discard(place, "broken")

    def __await__(self) -> Generator[Any, None, "AsyncLent[Connection]"]:
        yield from self.__aenter__().__await__()
        return self

    async def __aenter__(self) -> Connection:
        place = await self._pool._take(self._timeout_s)
        if self._place is not None:
            self._pool._give_back(place)
            raise PoolMisused(f"One borrow of pool {self._pool.name!r} was entered twice. Borrow for each block.")
        self._place = place
        self.connection = place.connection
        return self.connection

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        if error is None or self._pool._survives(error):
            self.give_back()
        else:
            await self.discard()

    def __del__(self) -> None:
        if self._place is not None:
            self._pool._dropped(self._place)
