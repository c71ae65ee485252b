"""The tier in this process: entries, and what is being loaded, so that an invalidation reaches both at once."""

import asyncio
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Protocol

from runtime.cache.entries import Entry, Limits
from runtime.cache.flights import Flight
from runtime.cache.keys import Key
from runtime.cache.stats import Tally


class Policy(Protocol):
    """Which entries are held: ``Lru`` or ``S3Fifo``. ``find`` may be called at any time, the rest by one at a time."""

    size_bytes: int

    def __len__(self) -> int:
        """How many there are."""

    def find(self, name: str) -> Entry | None:
        """The entry, which this has used."""

    def peek(self, name: str) -> Entry | None:
        """The entry; that is no use of it."""

    def add(self, entry: Entry) -> list[Entry]:
        """Hold the entry; those that made room for it."""

    def remove(self, name: str) -> Entry | None:
        """Let go of the entry."""

    def clear(self) -> list[Entry]:
        """Let go of everything."""


class MemoryTier:
    """Entries by name. Thread-safe: a hit takes no lock, everything else takes one for microseconds."""

    def __init__(self, policy: Callable[[Limits], Policy], limits: Limits, evictions: Tally) -> None:
        self._policy = policy(limits)
        self._evictions = evictions
        self._lock = threading.Lock()
        #: Which entries depend on a prefix or a tag.
        self._dependents: defaultdict[str, set[str]] = defaultdict(set)
        self._flights: dict[str, Flight] = {}
        #: The entry of a name, which this has used.
        self.find = self._policy.find

    def __len__(self) -> int:
        return len(self._policy)

    @property
    def size_bytes(self) -> int:
        """What the entries take, about."""
        return self._policy.size_bytes

    def board(
        self, key: Key, *, task: "asyncio.Task[object] | None" = None, replace: bool = False
    ) -> tuple[Flight, bool]:
        """The load of this key that is under way, and False; or a new one, and True: then it is the caller's to end.

        ``task`` is the caller's, if it is one. With ``replace`` it is always a new one, and what is loaded or held
        already is let go.
        """
        with self._lock:
            flight = self._flights.get(key.name)
            if flight is not None:
                if not replace:
                    flight.join()
                    return flight, False
                flight.doomed = True
            removed = self._policy.remove(key.name) if replace else None
            if removed is not None:
                self._unlist(removed)
            flight = self._flights[key.name] = Flight(key.name, key.dependencies, task)
        return flight, True

    def claim_refresh(self, entry: Entry) -> bool:
        """Whether the caller is the first to see that the entry is to be loaded anew ahead of its end."""
        with self._lock:
            if entry.absent or entry.fresh_s >= entry.expires_s:
                return False
            entry.fresh_s = entry.expires_s
            return True

    def land(self, flight: Flight, entry: Entry | None) -> None:
        """End a load: hold the entry, unless what it was loaded from has been invalidated meanwhile."""
        with self._lock:
            if self._flights.get(flight.name) is flight:
                del self._flights[flight.name]
            if entry is None or flight.doomed:
                return
            before = self._policy.peek(entry.name)
            if before is not None:
                self._unlist(before)
            evicted = self._policy.add(entry)
            for dependency in entry.dependencies:
                self._dependents[dependency].add(entry.name)
            for each in evicted:
                self._unlist(each)
                self._evictions.add()

    def invalidate(self, names: Iterable[str]) -> None:
        """Let go of these entries and of those that depend on these names, also as they come out of running loads.

        A call that begins after this waits for none of these loads.
        """
        removed = []
        with self._lock:
            meant = set(names)
            for name in tuple(meant):
                meant |= self._dependents.get(name, set())
            for name in meant:
                if entry := self._policy.remove(name):
                    self._unlist(entry)
                    removed.append(entry)
            for flight in [flight for flight in self._flights.values() if flight.depends_on(meant)]:
                flight.doomed = True
                del self._flights[flight.name]
        # A finalizer of a value runs here, outside of the lock, and may use the cache.
        removed.clear()

    def clear(self) -> None:
        """Let go of everything, also as it comes out of running loads."""
        with self._lock:
            removed = self._policy.clear()
            self._dependents.clear()
            for flight in self._flights.values():
                flight.doomed = True
            self._flights.clear()
        removed.clear()

    def _unlist(self, entry: Entry) -> None:
        for dependency in entry.dependencies:
            dependents = self._dependents[dependency]
            dependents.discard(entry.name)
            if not dependents:
                del self._dependents[dependency]
