"""How many bytes a value takes, about, where it is not encoded."""

import dataclasses
import sys
from collections.abc import Iterable, Mapping
from typing import Final

from msgspec import Struct

#: More values than this are not counted one by one: a weight is a bound on memory, not an audit.
COUNTED: Final = 1_000


def weigh(value: object) -> int:
    """The bytes of the value with what it holds, down to ``COUNTED`` parts; each has its ``nbytes``, if any."""
    size_bytes, left = 0, [value]
    for counted, each in enumerate(iter(lambda: left.pop() if left else None, None)):
        nbytes = getattr(each, "nbytes", None)
        size_bytes += sys.getsizeof(each) + (nbytes if type(nbytes) is int else 0)
        left.extend(_parts(each))
        if counted == COUNTED:
            # The rest is like the ones before.
            return size_bytes + len(left) * size_bytes // COUNTED
    return size_bytes


def _parts(value: object) -> Iterable[object]:
    match value:
        case str() | bytes():
            return ()
        case Mapping():
            return [part for pair in value.items() for part in pair if part is not None]
        case list() | tuple() | set() | frozenset():
            return [part for part in value if part is not None]
        case Struct():
            return [part for name in value.__struct_fields__ if (part := getattr(value, name)) is not None]
        case _ if dataclasses.is_dataclass(value):
            return [part for part in vars(value).values() if part is not None] if hasattr(value, "__dict__") else ()
        case _:
            return ()
