"""Least recently used: the policy of the memory tier by default. A data structure alone: no clock, no lock."""

from collections import OrderedDict

from runtime.cache.entries import Entry, Limits


class Lru:
    """Entries in the order of their last use.

    Threads may call ``find`` at any time, beside one thread that changes something: it does two operations of dicts
    with keys that are strings, each of which the interpreter's lock makes whole.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.size_bytes = 0
        self._entries: OrderedDict[str, Entry] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, name: str) -> Entry | None:
        """The entry, which this has used."""
        entry = self._entries.get(name)
        if entry is not None:
            try:  # noqa: SIM105  # a context manager would take longer than all the rest
                self._entries.move_to_end(name)
            except KeyError:
                # Another thread has removed it since.
                pass
        return entry

    def peek(self, name: str) -> Entry | None:
        """The entry; that is no use of it."""
        return self._entries.get(name)

    def add(self, entry: Entry) -> list[Entry]:
        """Hold the entry instead of what has its name; what made room for it, itself where it is too large."""
        self.remove(entry.name)
        if entry.size_bytes > self.limits.size_bytes:
            return [entry]
        self._entries[entry.name] = entry
        self.size_bytes += entry.size_bytes
        evicted = []
        while len(self._entries) > self.limits.entries or self.size_bytes > self.limits.size_bytes:
            _, oldest = self._entries.popitem(last=False)
            self.size_bytes -= oldest.size_bytes
            evicted.append(oldest)
        return evicted

    def remove(self, name: str) -> Entry | None:
        """Let go of the entry."""
        entry = self._entries.pop(name, None)
        if entry is not None:
            self.size_bytes -= entry.size_bytes
        return entry

    def clear(self) -> list[Entry]:
        """Let go of everything."""
        # Held until the end, so that no finalizer of a value runs in the middle.
        entries = list(self._entries.values())
        self._entries.clear()
        self.size_bytes = 0
        return entries
