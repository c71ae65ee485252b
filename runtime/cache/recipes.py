"""What the values of one region are: their form, their lifetime, and what says that there is none."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

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


@dataclass(frozen=True)
class Loaded:
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
    return _entry(recipe, loaded, size_bytes, loaded.life_s, clock)


def entry_found(recipe: Recipe, key: Key, found: Found, clock: Clock, asked_s: float) -> Entry:
    """What Redis held when it was asked, as memory holds it.

    Raises:
        OutdatedSchema: another form of the type wrote it.
        UnreadableValue: it is no value of the type, though nothing has damaged it.
    """
    header = found.header
    if header.schema != recipe.codec.schema:
        raise OutdatedSchema
    value: object = None
    if header.kind is Kind.ABSENT:
        if recipe.absent is None:
            raise OutdatedSchema
        value = bytes(found.payload).decode(errors="replace")
    elif header.kind is Kind.VALUE:
        value = recipe.codec.decode(found.payload)
    loaded = Loaded(
        key=key,
        kind=header.kind,
        value=value,
        payload=None,
        load_s=header.load_s,
        born_s=header.born_s,
        seen_s=asked_s,
        life_s=header.ttl_s,
        stale_s=header.stale_s,
    )
    # A clock that is behind the writer's makes nothing live longer than it would have from now.
    age_s = max(0.0, clock.wall_s() - header.born_s)
    return _entry(recipe, loaded, len(found.payload), header.ttl_s - age_s, clock)


def _entry(recipe: Recipe, loaded: Loaded, size_bytes: int, left_s: float, clock: Clock) -> Entry:
    expires_s = clock.monotonic_s() + left_s
    match loaded.kind:
        case Kind.VALUE:
            fresh_s = expires_s - recipe.lifetime.lead_s(clock.draw, loaded.load_s, loaded.life_s)
        case Kind.NOTHING:
            fresh_s = expires_s
        case Kind.ABSENT:
            # A hit has to raise it, not return it.
            fresh_s = LONG_AGO_S
    return Entry(
        loaded.key.name,
        loaded.value,
        size_bytes + ENTRY_BYTES,
        born_s=loaded.born_s,
        seen_s=loaded.seen_s,
        fresh_s=fresh_s,
        expires_s=expires_s,
        stale_s=expires_s + loaded.stale_s,
        absent=loaded.kind is Kind.ABSENT,
        dependencies=loaded.key.dependencies,
    )
