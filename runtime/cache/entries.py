"""What the memory tier holds, and how much of it."""

from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

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


class Entry(Struct, eq=False):
    """A value in memory, and how long it is good for by the monotonic clock. Only ``visits`` and ``fresh_s`` change.

    ``value`` is what the loader gave; where ``absent`` is set, the message of its error that there is nothing.
    """

    name: str
    value: Any
    size_bytes: int = ENTRY_BYTES
    #: Prefixes and tags; whoever invalidates one of them means this entry.
    dependencies: tuple[str, ...] = ()
    #: When its loader had ended, by the wall clock, which processes share.
    born_s: float = 0.0
    #: It was what a loader would have given at this moment, or later.
    seen_s: float = 0.0
    #: Until then a hit asks nobody; the first one after that has it loaded anew ahead of time.
    fresh_s: float = NEVER_S
    #: Until then it is the answer.
    expires_s: float = NEVER_S
    #: Until then it stands in for a loader that fails.
    stale_s: float = NEVER_S
    absent: bool = False
    #: Hits since the policy looked, up to what it counts to.
    visits: int = 0

    def until(self, expires_s: float) -> "Entry":
        """The same with another end, and not loaded ahead of it."""
        return replace(self, fresh_s=expires_s, expires_s=expires_s)
