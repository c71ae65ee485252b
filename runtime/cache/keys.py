"""Names that no two things can share: domain, version, tenant and typed arguments under one digest.

Arguments are written as tag, length and content, so that 1, 1.0, True and "1" differ, ("a", "bc") and ("ab", "c")
too, and nothing depends on ``repr`` or ``hash``. Two names are equal only where everything is, or where SHA-256 has
a collision in its first 160 bits.
"""

import dataclasses
import re
import struct
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from enum import Enum
from hashlib import sha256
from pathlib import PurePath, PureWindowsPath
from typing import Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

from msgspec import Struct

from schemas.errors import HeadraceError, shown

NAME_BYTES: Final = 20
#: Parts of a prefix: each is a version that Redis looks up at every read.
PREFIX_PARTS: Final = 4
#: Deeper arguments are a structure that refers to itself, or no arguments.
DEPTH: Final = 32
_PART: Final = re.compile(r"[A-Za-z0-9_.\-]+")


class NotCacheable(HeadraceError, TypeError):
    """What was passed can't name an entry, or can't be its value."""

    code = "not_cacheable"


class Key(Struct, frozen=True):
    """Where an entry lies, and what invalidates it besides its own name."""

    #: ``e:<prefix>:<digest>``: the name in both tiers.
    name: str
    #: ``p:<prefix>`` for the prefix and those that it begins with, ``t:<tag>`` for each tag.
    dependencies: tuple[str, ...]


def prefix_chain(prefix: str) -> tuple[str, ...]:
    """``a:b`` as ``("p:a", "p:a:b")``: whoever invalidates one of them invalidates what lies under it.

    Raises:
        NotCacheable: it is no prefix.
    """
    parts = prefix.split(":")
    if len(parts) > PREFIX_PARTS or not all(_PART.fullmatch(part) for part in parts):
        raise NotCacheable(
            f"A key prefix has 1 to {PREFIX_PARTS} parts of letters, digits, '_', '.' and '-', with ':' between them; "
            f"{shown(prefix)} is none."
        )
    return tuple("p:" + ":".join(parts[:end]) for end in range(1, len(parts) + 1))


def tag_names(tags: Iterable[str]) -> tuple[str, ...]:
    """The tags as dependencies, each once, in one order.

    Raises:
        NotCacheable: a tag is no text, or is empty.
    """
    if isinstance(tags, str):
        raise NotCacheable(f"Tags are a tuple of texts; {shown(tags)} is one text. Write ({shown(tags)},).")
    kept = set(tags)
    for tag in kept:
        if type(tag) is not str or tag == "":
            raise NotCacheable(f"A tag is a text that is not empty; {shown(tag)} is none.")
        check_name(tag)
    return tuple(f"t:{tag}" for tag in sorted(kept))


def check_name(name: str) -> None:
    """Check that it can be told to Redis: a name that can't would be held as untold for ever.

    Raises:
        NotCacheable: it is no text, or none that UTF-8 has bytes for.
    """
    try:
        name.encode()
    except (AttributeError, UnicodeEncodeError) as error:
        raise NotCacheable(f"{shown(name)} is no name of an entry, a prefix or a tag: {error}.") from error


def name_of(prefix: str, version: int, tenant: str, arguments: object) -> str:
    """The name of the entry for these arguments.

    Raises:
        NotCacheable: an argument's type has no canonical form.
    """
    digest = sha256(canonical(("headrace.cache", prefix, version, tenant, arguments))).hexdigest()
    return f"e:{prefix}:{digest[: 2 * NAME_BYTES]}"


def canonical(value: object) -> bytes:
    """The value as bytes that no other value has; sets and mappings whatever their order.

    Raises:
        NotCacheable: it, or something in it, is of a type without a canonical form.
    """
    return _canonical(value, DEPTH)


def _canonical(value: object, depth: int) -> bytes:
    if depth == 0:
        raise NotCacheable(f"The arguments are nested deeper than {DEPTH} levels. Pass what identifies them instead.")
    kind = type(value)
    if value is None:
        return b"N"
    if scalar := _SCALARS.get(kind):
        tag, write = scalar
        return _tagged(tag, write(value))
    if container := _CONTAINERS.get(kind):
        tag, write_all = container
        return _tagged(tag, write_all(value, depth - 1))
    return _instance(value, kind, depth - 1)


def _instance(value: object, kind: type, depth: int) -> bytes:
    # A class' name, so that values of two classes differ even where their fields don't.
    name = f"{kind.__module__}.{kind.__qualname__}".encode()
    if isinstance(value, Enum):
        # No flag, and one that has no name, have their number.
        member = value.name or str(value.value)
        return _tagged(b"E", _tagged(b"n", name) + _tagged(b"s", member.encode()))
    if isinstance(value, PurePath):
        return _tagged(
            b"W" if isinstance(value, PureWindowsPath) else b"P", str(value).encode(errors="surrogateescape")
        )
    if isinstance(value, Struct):
        fields = {field: getattr(value, field) for field in value.__struct_fields__}
        return _tagged(b"S", _tagged(b"n", name) + _mapping(fields, depth))
    # Its own: a class that is derived from one without being one may have more than the fields say.
    if dataclasses.is_dataclass(value) and not isinstance(value, type) and "__dataclass_fields__" in vars(kind):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return _tagged(b"C", _tagged(b"n", name) + _mapping(fields, depth))
    if isinstance(value, type):
        return _tagged(b"T", f"{value.__module__}.{value.__qualname__}".encode())
    raise NotCacheable(
        f"A {kind.__module__}.{kind.__qualname__} can't be part of a cache key: {shown(value)}. Pass numbers, texts, "
        "bytes, dates, paths, enums, structs, dataclasses, or tuples, lists, sets and mappings of these."
    )


def _tagged(tag: bytes, content: bytes) -> bytes:
    return tag + len(content).to_bytes(8, "big") + content


def _zone(zone: tzinfo | None) -> bytes:
    # The offset, which is there already, is that of many zones, and a time's zone may not even have one.
    if zone is None or isinstance(zone, timezone):
        return b""
    if isinstance(zone, ZoneInfo) and zone.key:
        return f"[{zone.key}]".encode()
    raise NotCacheable(
        f"A time of {shown(zone)} can't be part of a cache key: the zone has no name. Use a zoneinfo.ZoneInfo of a "
        "name, or a datetime.timezone."
    )


def _mapping(values: Mapping[object, object] | Mapping[str, object], depth: int) -> bytes:
    pairs = ((_canonical(key, depth), _canonical(value, depth)) for key, value in values.items())
    return b"".join(_tagged(b"k", key + value) for key, value in sorted(pairs))


_SCALARS: Final[dict[type, tuple[bytes, Callable[[Any], bytes]]]] = {
    bool: (b"?", lambda value: b"1" if value else b"0"),
    int: (b"i", lambda value: b"%d" % value),
    float: (b"f", lambda value: struct.pack(">d", value)),
    complex: (b"j", lambda value: struct.pack(">dd", value.real, value.imag)),
    str: (b"s", lambda value: value.encode(errors="surrogatepass")),
    bytes: (b"b", lambda value: value),
    datetime: (b"d", lambda value: b"%d%s%s" % (value.fold, value.isoformat().encode(), _zone(value.tzinfo))),
    date: (b"a", lambda value: value.isoformat().encode()),
    time: (b"c", lambda value: b"%d%s%s" % (value.fold, value.isoformat().encode(), _zone(value.tzinfo))),
    timedelta: (b"x", lambda value: b"%d,%d,%d" % (value.days, value.seconds, value.microseconds)),
    Decimal: (b"D", lambda value: str(value).encode()),
    UUID: (b"u", lambda value: value.bytes),
}
_CONTAINERS: Final[dict[type, tuple[bytes, Callable[[Any, int], bytes]]]] = {
    tuple: (b"t", lambda values, depth: b"".join(_canonical(each, depth) for each in values)),
    list: (b"l", lambda values, depth: b"".join(_canonical(each, depth) for each in values)),
    dict: (b"m", lambda values, depth: _mapping(values, depth)),
    frozenset: (b"z", lambda values, depth: b"".join(sorted(_canonical(each, depth) for each in values))),
    set: (b"y", lambda values, depth: b"".join(sorted(_canonical(each, depth) for each in values))),
}
