"""From a miss to a value: Redis, then whoever is loading it, then the loader; and what is kept of it."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
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
        stored = redis is None or await _write(redis, want, loaded, hands)
    except BaseException:
        tiers.memory.land(flight, None)
        flight.fail(Abandoned())
        raise
    tiers.memory.land(flight, entry)
    flight.succeed(entry)
    return stored


async def _write(redis: RedisTier, want: Want, loaded: Loaded, hands: Hands) -> bool:
    lease = await hands.call(partial(redis.begin, want.key, force=True))
    if isinstance(lease, Lease) and await _store(redis, want.recipe, lease, loaded, hands, announce=True):
        return True
    # What others hold is not the value any more, be it that they have to load it.
    await hands.call(partial(redis.invalidate, (want.key.name,)))
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
    try:
        loaded = await _load(tiers, want, load)
    except (Exception, asyncio.CancelledError) as error:
        if tiers.redis is not None and lease is not None:
            await hands.call(partial(tiers.redis.release, lease))
        if not isinstance(error, Exception):
            raise
        tiers.tallies.load_errors.add()
        now_s = tiers.clock.monotonic_s()
        if want.refresh or stale is None or stale.absent or now_s >= stale.stale_s:
            raise
        tiers.tallies.stale.add()
        return stale.until(min(stale.stale_s, now_s + RETRY_S))
    except BaseException:
        if tiers.redis is not None and lease is not None:
            tiers.redis.forget(lease)
        raise
    entry = entry_of(want.recipe, loaded, tiers.clock)
    if tiers.redis is not None and lease is not None:
        if not loaded.life_s:
            await hands.call(partial(tiers.redis.release, lease))
        elif not await _store(tiers.redis, want.recipe, lease, loaded, hands):
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
        lease = await hands.call(partial(redis.begin, want.key))
        match lease:
            case None:
                return None
            case Lease():
                found = None
                # What can't be read was counted as it was read.
                with suppress(OutdatedSchema, UnreadableValue):
                    found = lease.found and entry_found(want.recipe, want.key, lease.found, tiers.clock, asked_s)
                if found and _is_answer(tiers, want, found):
                    await hands.call(partial(redis.release, lease))
                    tiers.tallies.redis_hits.add()
                    return found
                redis.hold(lease)
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


async def _store(
    redis: RedisTier, recipe: Recipe, lease: Lease, loaded: Loaded, hands: Hands, *, announce: bool = False
) -> bool:
    sealed = loaded.sealed(recipe.codec.schema, lease.versions)
    keep_s = loaded.life_s + loaded.stale_s
    return await hands.call(partial(redis.store, lease, sealed, keep_s, announce=announce))


def _is_answer(tiers: Tiers, want: Want, entry: Entry) -> bool:
    if tiers.clock.monotonic_s() >= entry.expires_s:
        return False
    return not want.refresh or want.known is None or entry.born_s > want.known.born_s
