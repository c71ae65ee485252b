"""What the memory tier holds, and how much of it."""

from typing import Any, Final

from msgspec import Struct

#: What an entry takes besides its value: the object, its name, its places in two dicts and in the index.
ENTRY_BYTES: Final = 400
#: When a value that never runs out runs out.
NEVER_S: Final = float("inf")


class Limits(Struct, frozen=True, kw_only=True):
    """How much the memory tier may hold, whichever is reached first."""

    entries: int = 10_000
    size_bytes: int = 64 * 1024 * 1024

    def __post_init__(self) -> None:
        if self.entries < 1 or self.size_bytes < 1:
            raise ValueError(
                f"The limits are {self.entries:,} entries and {self.size_bytes:,} bytes; a cache holds at least one."
            )


class Entry:
    """A value in memory, and how long it is good for by the monotonic clock. Only ``visits`` and ``fresh_s`` change.

    ``value`` is what the loader gave; where ``absent`` is set, the message of its error that there is nothing.
    """

    __slots__ = (
        "absent",
        "born_s",
        "dependencies",
        "expires_s",
        "fresh_s",
        "name",
        "seen_s",
        "size_bytes",
        "stale_s",
        "value",
        "visits",
    )

    def __init__(
        self,
        name: str,
        value: Any,
        size_bytes: int = ENTRY_BYTES,
        *,
        born_s: float = 0.0,
        seen_s: float = 0.0,
        fresh_s: float = NEVER_S,
        expires_s: float = NEVER_S,
        stale_s: float = NEVER_S,
        absent: bool = False,
        dependencies: tuple[str, ...] = (),
    ) -> None:
        self.name = name
        self.value = value
        self.size_bytes = size_bytes
        #: When its loader had ended, by the wall clock, which processes share.
        self.born_s = born_s
        #: It was what a loader would have given at this moment, or later.
        self.seen_s = seen_s
        #: Until then a hit asks nobody; the first one after that has it loaded anew ahead of time.
        self.fresh_s = fresh_s
        #: Until then it is the answer.
        self.expires_s = expires_s
        #: Until then it stands in for a loader that fails.
        self.stale_s = stale_s
        self.absent = absent
        #: Prefixes and tags; whoever invalidates one of them means this entry.
        self.dependencies = dependencies
        #: Hits since the policy looked, up to what it counts to.
        self.visits = 0

    def until(self, expires_s: float) -> "Entry":
        """The same with another end, and not loaded ahead of it."""
        return Entry(
            self.name,
            self.value,
            self.size_bytes,
            born_s=self.born_s,
            seen_s=self.seen_s,
            fresh_s=expires_s,
            expires_s=expires_s,
            stale_s=self.stale_s,
            absent=self.absent,
            dependencies=self.dependencies,
        )
