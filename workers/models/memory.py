"""The nearest tier: what is loaded, lent to many at once, within a budget of bytes.

Lives in one event loop. What nobody has borrowed is dropped when room is needed, the longest unused
first. Concurrent borrowers of something that is not loaded wait for one load; a failed load is
forgotten, so that the next borrower tries again.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar


class Sized(Protocol):
    """Anything that knows how much memory it takes."""

    @property
    def size_bytes(self) -> int:
        """Its share of the budget."""
        ...


Item = TypeVar("Item", bound=Sized)


@dataclass(eq=False)
class _Entry(Generic[Item]):
    key: str
    loading: asyncio.Task[Item]
    size_bytes: int
    parent: "_Entry[Item] | None"
    #: Borrowers, and entries that are built on this one.
    users: int = 0


class MemoryTier(Generic[Item]):
    """Loaded items by key, at most ``budget_bytes`` of them but for those that are lent."""

    def __init__(self, budget_bytes: int) -> None:
        self._budget_bytes = budget_bytes
        self._entries: OrderedDict[str, _Entry[Item]] = OrderedDict()

    @asynccontextmanager
    async def borrow(
        self, key: str, size_bytes: int, load: Callable[[], Awaitable[Item]], *, parent: str | None = None
    ) -> AsyncIterator[Item]:
        """Lend an item, loaded if need be; it stays at least until the block ends.

        ``size_bytes`` is the estimate by which room is made before the load. ``parent`` is the key of a
        borrowed item whose memory this one uses: it stays as long as this one does.
        """
        entry = self._entries.get(key) or self._start(key, size_bytes, load, parent)
        entry.users += 1
        self._entries.move_to_end(key)
        try:
            # Shielded: one borrower that is cancelled does not cancel the load for the others.
            yield await asyncio.shield(entry.loading)
        finally:
            entry.users -= 1
            self._shrink(0)

    def loaded(self) -> list[Item]:
        """Everything that is in memory now."""
        return [
            entry.loading.result()
            for entry in self._entries.values()
            if entry.loading.done() and not entry.loading.cancelled() and not entry.loading.exception()
        ]

    def _start(
        self, key: str, size_bytes: int, load: Callable[[], Awaitable[Item]], parent: str | None
    ) -> _Entry[Item]:
        # Room before the load: a device that is full can't hold the old and the new at once.
        self._shrink(size_bytes)
        loading = asyncio.ensure_future(_run(load))
        entry = _Entry(key, loading, size_bytes, self._entries[parent] if parent else None)
        if entry.parent:
            entry.parent.users += 1
        self._entries[key] = entry
        loading.add_done_callback(lambda _: self._loaded(entry))
        return entry

    def _loaded(self, entry: _Entry[Item]) -> None:
        if entry.loading.cancelled() or entry.loading.exception():
            self._drop(entry)
            return
        entry.size_bytes = entry.loading.result().size_bytes
        self._shrink(0)

    def _shrink(self, wanted_bytes: int) -> None:
        total_bytes = wanted_bytes + sum(entry.size_bytes for entry in self._entries.values())
        # A dropped entry may free its parent, which is then looked at again.
        while total_bytes > self._budget_bytes and (entry := self._oldest_unused()):
            self._drop(entry)
            total_bytes -= entry.size_bytes

    def _oldest_unused(self) -> _Entry[Item] | None:
        idle = (entry for entry in self._entries.values() if not entry.users and entry.loading.done())
        return next(idle, None)

    def _drop(self, entry: _Entry[Item]) -> None:
        del self._entries[entry.key]
        if entry.parent:
            entry.parent.users -= 1


async def _run(load: Callable[[], Awaitable[Item]]) -> Item:
    return await load()
