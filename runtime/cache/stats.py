"""What a cache counts."""

import itertools
import threading

from msgspec import Struct


class Tally:
    """A count to which threads add without a lock, and lose nothing: ``add`` is one call into C."""

    __slots__ = ("_lock", "_reads", "add")

    def __init__(self) -> None:
        self.add = itertools.count(1).__next__
        self._lock = threading.Lock()
        self._reads = 0

    def read(self) -> int:
        """How often ``add`` was called."""
        with self._lock:
            self._reads += 1
            return self.add() - self._reads


class Tallies:
    """The counts of one cache since it was opened."""

    def __init__(self) -> None:
        self.redis_hits = Tally()
        self.loads = Tally()
        self.load_errors = Tally()
        self.refreshes = Tally()
        self.stale = Tally()
        self.damaged = Tally()
        self.outdated = Tally()
        self.evictions = Tally()
        self.redis_errors = Tally()
        self.unstored = Tally()
        self.invalidations = Tally()
        self.gaps = Tally()


class CacheStats(Struct, frozen=True, kw_only=True):
    """The counts of a cache since it was opened, and what it holds now."""

    #: Answered by this process' memory, and by Redis; whoever waited for another's load counts for neither.
    memory_hits: int
    redis_hits: int
    #: Loaders that ran, those ahead of time included; those that failed; those ahead of time.
    loads: int
    load_errors: int
    refreshes: int
    #: Answers past their time, because the loader failed.
    stale: int
    #: Entries of Redis that were not what their digest says, and that another form of the type wrote. Both are misses.
    damaged: int
    outdated: int
    #: Entries that left memory for others.
    evictions: int
    #: Commands that failed or were not answered in time, and values that Redis did not take.
    redis_errors: int
    unstored: int
    #: Names that others have invalidated, and times that memory was emptied because some may have been missed.
    invalidations: int
    gaps: int
    #: In memory now.
    entries: int
    size_bytes: int
    #: Whether Redis is asked and written to now; invalidations that it has still to be told.
    redis_answers: bool
    redis_writable: bool
    undelivered: int
    #: Whether other processes' invalidations reach this one now.
    listening: bool


class RegionStats(Struct, frozen=True, kw_only=True):
    """The counts of one region, or of one function."""

    hits: int
    misses: int
