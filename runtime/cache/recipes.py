"""What the values of one region are: their form, their lifetime, and what says that there is none."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from msgspec import Struct

from runtime.cache.clock import Clock
from runtime.cache.codecs import Codec
from runtime.cache.entries import ENTRY_BYTES, Entry
from runtime.cache.envelope import Header, Kind, seal
from runtime.cache.keys import Key, NotCacheable
from runtime.cache.lifetimes import Lifetime
from runtime.cache.redis_tier import Found

#: What never passes, so that a hit looks closer.
LONG_AGO_S = float("-inf")


class OutdatedSchema(Exception):
    """An entry that was written by another form of the type."""


@dataclass(frozen=True)
class Recipe:
    """How values become entries and back. ``weigh`` gives a value's size in bytes, where nothing encodes it."""

    codec: Codec[Any]
    lifetime: Lifetime
    absent: type[Exception] | None
    weigh: Callable[[object], int]

    def error(self, message: str) -> Exception:
        """The error that says that there is nothing, anew.

        Raises:
            NotCacheable: its class can't be made from a message alone.
        """
        assert self.absent is not None, "only what is declared is kept"
        try:
            return self.absent(message)
        except TypeError as error:
            raise NotCacheable(
                f"{self.absent.__qualname__} is made from more than its message: {error}. Declare an error of one."
            ) from error


class Loaded(Struct, frozen=True):
    """What a loader gave, as it is about to be kept: ``payload`` is None where nothing has to be encoded."""

    key: Key
    kind: Kind
    value: Any
    payload: bytes | None
    load_s: float
    #: See ``Entry``.
    born_s: float
    seen_s: float
    life_s: float
    stale_s: float

    def sealed(self, schema: bytes, versions: tuple[bytes, ...]) -> bytes:
        """As Redis holds it."""
        header = Header(schema, self.born_s, self.life_s, self.stale_s, self.load_s, self.kind, versions)
        return seal(self.key.name, header, self.payload or b"")


def prepare(
    recipe: Recipe, key: Key, outcome: object, clock: Clock, begun_s: float, *, encoded: bool, failed: bool
) -> Loaded:
    """What is to be kept of a loader's outcome: its value, or its declared error where ``failed``.

    Raises:
        NotCacheable: the codec does not take it.
    """
    kind = Kind.ABSENT if failed else Kind.NOTHING if outcome is None else Kind.VALUE
    lifetime, value, payload = recipe.lifetime, outcome, None
    if kind is Kind.ABSENT:
        value = str(outcome)
        recipe.error(value)
        payload = value.encode(errors="replace")
    elif encoded:
        payload = recipe.codec.encode(outcome) if kind is Kind.VALUE else b""
    kept = kind is Kind.VALUE or lifetime.absent_s is not None
    return Loaded(
        key=key,
        kind=kind,
        value=value,
        payload=payload,
        load_s=clock.monotonic_s() - begun_s,
        born_s=clock.wall_s(),
        seen_s=begun_s,
        life_s=lifetime.draw_s(clock.draw, absent=kind is not Kind.VALUE) if kept else 0.0,
        stale_s=lifetime.stale_s if kind is Kind.VALUE else 0.0,
    )


def entry_of(recipe: Recipe, loaded: Loaded, clock: Clock) -> Entry:
    """As memory holds it."""
    size_bytes = len(loaded.payload) if loaded.payload is not None else recipe.weigh(loaded.value)
    expires_s = clock.monotonic_s() + loaded.life_s
    return Entry(
        loaded.key.name,
        loaded.value,
        size_bytes + ENTRY_BYTES,
        loaded.key.dependencies,
        loaded.born_s,
        loaded.seen_s,
        _fresh_s(recipe, loaded.kind, clock, expires_s, loaded.load_s, loaded.life_s),
        expires_s,
        expires_s + loaded.stale_s,
        loaded.kind is Kind.ABSENT,
    )


def entry_found(recipe: Recipe, key: Key, found: Found, clock: Clock, asked_s: float) -> Entry:
    """What Redis held when it was asked, as memory holds it.

    Raises:
        OutdatedSchema: another form of the type wrote it.
        UnreadableValue: it is no value of the type, though nothing has damaged it.
    """
    header, kind = found.header, found.header.kind
    if header.schema != recipe.codec.schema or (kind is Kind.ABSENT and recipe.absent is None):
        raise OutdatedSchema
    value: object = None
    if kind is Kind.VALUE:
        value = recipe.codec.decode(found.payload)
    elif kind is Kind.ABSENT:
        value = bytes(found.payload).decode(errors="replace")
    # A clock that is behind the writer's makes nothing live longer than it would have from now.
    age_s = max(0.0, clock.wall_s() - header.born_s)
    expires_s = clock.monotonic_s() + header.ttl_s - age_s
    return Entry(
        key.name,
        value,
        len(found.payload) + ENTRY_BYTES,
        key.dependencies,
        header.born_s,
        asked_s,
        _fresh_s(recipe, kind, clock, expires_s, header.load_s, header.ttl_s),
        expires_s,
        expires_s + header.stale_s,
        kind is Kind.ABSENT,
    )


def _fresh_s(recipe: Recipe, kind: Kind, clock: Clock, expires_s: float, load_s: float, life_s: float) -> float:
    match kind:
        case Kind.VALUE:
            return expires_s - recipe.lifetime.lead_s(clock.draw, load_s, life_s)
        case Kind.NOTHING:
            return expires_s
        case Kind.ABSENT:
            # A hit has to raise it, not return it.
            return LONG_AGO_S
