"""From a miss to a value: Redis, then whoever is loading it, then the loader; and what is kept of it."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from msgspec import Struct

from runtime.cache.clock import Clock
from runtime.cache.codecs import UnreadableValue
from runtime.cache.entries import Entry
from runtime.cache.flights import Abandoned, Flight
from runtime.cache.hands import Hands
from runtime.cache.keys import Key
from runtime.cache.memory import MemoryTier
from runtime.cache.recipes import Loaded, OutdatedSchema, Recipe, entry_found, entry_of, prepare
from runtime.cache.redis_tier import Lease, RedisTier, Taken
from runtime.cache.stats import Tallies

#: How often a process looks whether another one is done: at first, and at most.
LOOK_S: Final = 0.005
LONGEST_LOOK_S: Final = 0.1
#: How soon a loader that failed is tried again, where a value past its time stands in for it.
RETRY_S: Final = 1.0

Load = Callable[[], Awaitable[Any]]


@dataclass(frozen=True)
class Tiers:
    """What every region of a cache shares."""

    memory: MemoryTier
    redis: RedisTier | None
    clock: Clock
    tallies: Tallies


class Want(Struct, frozen=True):
    """An entry that is not in memory, or, with ``refresh``, one newer than ``known``.

    ``known`` may stand in for a loader that fails, as long as it may.
    """

    key: Key
    recipe: Recipe
    known: Entry | None = None
    refresh: bool = False


async def lead(tiers: Tiers, want: Want, load: Load, hands: Hands, flight: Flight) -> Entry:
    """End the flight with a value or an error, for all who wait for it.

    Raises:
        Exception: what the loader raised.
    """
    try:
        entry = await obtain(tiers, want, load, hands)
    except BaseException as error:
        # Out of the table first, so that whoever tries again after the error starts anew.
        tiers.memory.land(flight, None)
        flight.fail(error)
        raise
    tiers.memory.land(flight, entry if entry.expires_s > tiers.clock.monotonic_s() else None)
    flight.succeed(entry)
    return entry


def peek(tiers: Tiers, want: Want) -> Entry | None:
    """What Redis has, brought to memory; nothing is loaded. Blocking."""
    if tiers.redis is None:
        return None
    flight, ours = tiers.memory.board(want.key)
    entry = None
    try:
        entry = read(tiers, tiers.redis, want)
        return entry
    finally:
        if ours:
            tiers.memory.land(flight, entry)
            if entry and _is_answer(tiers, want, entry):
                flight.succeed(entry)
            else:
                flight.fail(Abandoned())


def read(tiers: Tiers, redis: RedisTier, want: Want) -> Entry | None:
    """What Redis has; what can't be read is counted. Blocking."""
    asked_s = tiers.clock.monotonic_s()
    found = redis.read(want.key)
    if found is None:
        return None
    try:
        return entry_found(want.recipe, want.key, found, tiers.clock, asked_s)
    except OutdatedSchema:
        tiers.tallies.outdated.add()
    except UnreadableValue:
        tiers.tallies.damaged.add()
    return None


async def write(tiers: Tiers, want: Want, value: object, hands: Hands) -> bool:
    """Make this the value, everywhere; False where Redis did not take it, so that others load theirs."""
    redis, key = tiers.redis, want.key
    flight, _ = tiers.memory.board(key, task=hands.task(), replace=True)
    try:
        begun_s = tiers.clock.monotonic_s()
        loaded = prepare(want.recipe, key, value, tiers.clock, begun_s, encoded=redis is not None, failed=False)
        entry = entry_of(want.recipe, loaded, tiers.clock)
        stored = redis is None or await _write(tiers, redis, want, loaded, hands)
    except BaseException:
        tiers.memory.land(flight, None)
        flight.fail(Abandoned())
        raise
    tiers.memory.land(flight, entry)
    flight.succeed(entry)
    return stored


async def _write(tiers: Tiers, redis: RedisTier, want: Want, loaded: Loaded, hands: Hands) -> bool:
    name = want.key.name
    lease = await hands.call(partial(redis.begin, want.key, force=True), redis.release)
    if isinstance(lease, Lease):
        with _held(redis, lease, hands):
            sealed = loaded.sealed(want.recipe.codec.schema, lease.versions)
            store = partial(redis.store, lease, sealed, loaded.life_s + loaded.stale_s, announce=True)
            # The others are told, and this process does not hear itself: what it has read meanwhile may be older.
            if await hands.call(store, lambda _: tiers.memory.invalidate((name,))):
                return True
    # What others hold is not the value any more, be it that they have to load it.
    await hands.call(partial(redis.invalidate, (name,)))
    return False


async def obtain(tiers: Tiers, want: Want, load: Load, hands: Hands) -> Entry:
    """The value from Redis, or from the loader, and then in Redis.

    Raises:
        Exception: what the loader raised, where nothing may stand in for it.
    """
    lease, stale = None, want.known
    if tiers.redis is not None:
        found = await hands.call(partial(read, tiers, tiers.redis, want))
        if found and _is_answer(tiers, want, found):
            tiers.tallies.redis_hits.add()
            return found
        stale = found or stale
        claimed = await _claim(tiers, tiers.redis, want, hands)
        if isinstance(claimed, Entry):
            return claimed
        lease = claimed
    with _held(tiers.redis, lease, hands):
        try:
            loaded = await _load(tiers, want, load)
        except Exception:
            tiers.tallies.load_errors.add()
            now_s = tiers.clock.monotonic_s()
            if want.refresh or stale is None or stale.absent or now_s >= stale.stale_s:
                raise
            tiers.tallies.stale.add()
            return stale.until(min(stale.stale_s, now_s + RETRY_S))
        entry = entry_of(want.recipe, loaded, tiers.clock)
        if tiers.redis is not None and lease is not None and loaded.life_s:
            sealed = loaded.sealed(want.recipe.codec.schema, lease.versions)
            store = partial(tiers.redis.store, lease, sealed, loaded.life_s + loaded.stale_s)
            if not await hands.call(store):
                tiers.tallies.unstored.add()
        return entry


async def _load(tiers: Tiers, want: Want, load: Load) -> Loaded:
    tiers.tallies.loads.add()
    begun_s = tiers.clock.monotonic_s()
    make = partial(prepare, want.recipe, want.key, clock=tiers.clock, begun_s=begun_s, encoded=tiers.redis is not None)
    absent, kept = want.recipe.absent, want.recipe.lifetime.absent_s is not None
    try:
        value = await load()
    except Exception as error:
        # Of this class alone: one that is derived from it may say something else.
        if absent is None or not kept or type(error) is not absent:
            raise
        return make(error, failed=True)
    return make(value, failed=False)


async def _claim(tiers: Tiers, redis: RedisTier, want: Want, hands: Hands) -> Lease | Entry | None:
    """The lease, or what another process has loaded by now; None where neither is to be had."""
    pause_s, begun_s = LOOK_S, tiers.clock.monotonic_s()
    while True:
        asked_s = tiers.clock.monotonic_s()
        lease = await hands.call(partial(redis.begin, want.key), redis.release)
        match lease:
            case None:
                return None
            case Lease():
                found = None
                # What can't be read was counted as it was read.
                with suppress(OutdatedSchema, UnreadableValue):
                    found = lease.found and entry_found(want.recipe, want.key, lease.found, tiers.clock, asked_s)
                if found and _is_answer(tiers, want, found):
                    hands.leave(partial(redis.release, lease))
                    tiers.tallies.redis_hits.add()
                    return found
                return lease
            case Taken():
                pass
        if want.refresh and want.known:
            return want.known
        if tiers.clock.monotonic_s() - begun_s > want.recipe.lifetime.wait_s:
            return None
        await hands.sleep(pause_s * (0.5 + tiers.clock.draw()))
        pause_s = min(1.5 * pause_s, LONGEST_LOOK_S)
        found = await hands.call(partial(read, tiers, redis, want))
        if found and _is_answer(tiers, want, found):
            tiers.tallies.redis_hits.add()
            return found


@contextmanager
def _held(redis: RedisTier | None, lease: Lease | None, hands: Hands) -> Iterator[None]:
    """Have the lease renewed in here, and given up by the end: else others would wait while this process lives."""
    if redis is None or lease is None:
        yield
        return
    redis.hold(lease)
    try:
        yield
    finally:
        # Whatever has ended it, also in the middle of storing; a task that is cancelled waits for nobody.
        if redis.forget(lease):
            hands.leave(partial(redis.release, lease))


def _is_answer(tiers: Tiers, want: Want, entry: Entry) -> bool:
    if tiers.clock.monotonic_s() >= entry.expires_s:
        return False
    return not want.refresh or want.known is None or entry.born_s > want.known.born_s
