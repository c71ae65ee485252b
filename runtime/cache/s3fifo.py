"""S3-FIFO: a policy that scans do not flush. A data structure alone: no clock, no lock.

Yang, Zhang, Qiu, Yue, Rashmi: "FIFO queues are all you need for cache eviction" (SOSP 2023), algorithm 1. What is
new waits in a small queue, and what nobody has asked for again by its end leaves; its name is remembered for a while
among the ghosts, and if it comes back it goes to the main queue at once. A hit only counts, and moves nothing.
"""

from collections import OrderedDict
from typing import Final

from runtime.cache.entries import Entry, Limits

#: The small queue's share of the cache (the paper's section 4.2).
SMALL_SHARE: Final = 0.1
#: Hits are counted in two bits.
VISITS_COUNTED: Final = 3
#: Hits in the small queue that move an entry to the main one.
VISITS_TO_STAY: Final = 2


class S3Fifo:
    """Entries in a small and a main queue.

    Threads may call ``find`` at any time, beside one thread that changes something: it reads one dict and sets one
    attribute, and where two threads set that at once a visit is not counted, which costs nothing.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.size_bytes = 0
        self._small_bytes = 0
        self._entries: dict[str, Entry] = {}
        self._small: OrderedDict[str, Entry] = OrderedDict()
        self._main: OrderedDict[str, Entry] = OrderedDict()
        #: Hashes of names: two names that share one cost a place in the main queue.
        self._ghosts: OrderedDict[int, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, name: str) -> Entry | None:
        """The entry, which this has used."""
        entry = self._entries.get(name)
        if entry is not None and entry.visits < VISITS_COUNTED:
            entry.visits += 1
        return entry

    def peek(self, name: str) -> Entry | None:
        """The entry; that is no use of it."""
        return self._entries.get(name)

    def add(self, entry: Entry) -> list[Entry]:
        """Hold the entry instead of what has its name; what made room for it, itself where it is too large."""
        before = self.peek(entry.name)
        was_main = entry.name in self._main
        self.remove(entry.name)
        if entry.size_bytes > self.limits.size_bytes:
            return [entry]
        evicted = self._make_room(entry.size_bytes)
        ghost = hash(entry.name)
        if was_main or ghost in self._ghosts:
            self._ghosts.pop(ghost, None)
            self._main[entry.name] = entry
        else:
            self._small[entry.name] = entry
            self._small_bytes += entry.size_bytes
        # A value that was loaded anew is as popular as before.
        entry.visits = before.visits if before else 0
        self._entries[entry.name] = entry
        self.size_bytes += entry.size_bytes
        return evicted

    def remove(self, name: str) -> Entry | None:
        """Let go of the entry."""
        entry = self._entries.pop(name, None)
        if entry is not None:
            self.size_bytes -= entry.size_bytes
            if self._small.pop(name, None) is not None:
                self._small_bytes -= entry.size_bytes
            else:
                del self._main[name]
        return entry

    def clear(self) -> list[Entry]:
        """Let go of everything."""
        # Held until the end, so that no finalizer of a value runs in the middle.
        entries = list(self._entries.values())
        for queue in (self._entries, self._small, self._main, self._ghosts):
            queue.clear()
        self.size_bytes = self._small_bytes = 0
        return entries

    def _make_room(self, size_bytes: int) -> list[Entry]:
        evicted = []
        while (
            len(self._entries) >= self.limits.entries or self.size_bytes + size_bytes > self.limits.size_bytes
        ) and self._entries:
            victim = self._evict_small() if self._small_is_due() else self._evict_main()
            if victim is not None:
                del self._entries[victim.name]
                self.size_bytes -= victim.size_bytes
                evicted.append(victim)
        return evicted

    def _small_is_due(self) -> bool:
        if not self._small:
            return False
        return (
            not self._main
            or len(self._small) >= SMALL_SHARE * self.limits.entries
            or self._small_bytes >= SMALL_SHARE * self.limits.size_bytes
        )

    def _evict_small(self) -> Entry | None:
        name, entry = self._small.popitem(last=False)
        self._small_bytes -= entry.size_bytes
        if entry.visits >= VISITS_TO_STAY:
            entry.visits = 0
            self._main[name] = entry
            return None
        self._ghosts[hash(name)] = None
        # As many as there are entries: the main queue's number would be none as the cache fills.
        while len(self._ghosts) > len(self._entries):
            self._ghosts.popitem(last=False)
        return entry

    def _evict_main(self) -> Entry | None:
        name, entry = self._main.popitem(last=False)
        if entry.visits:
            entry.visits -= 1
            self._main[name] = entry
            return None
        return entry
