"""Values of one kind under one prefix: where a cache is read and written."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Executor
from typing import Any, Final, Generic, TypeVar

from runtime.cache.entries import Entry
from runtime.cache.flights import Abandoned, Flight
from runtime.cache.hands import Blocking, Hands, OnLoop, run
from runtime.cache.keys import Key, name_of, prefix_chain, tag_names
from runtime.cache.listener import BLIND_S, Vouch
from runtime.cache.loading import Load, Tiers, Want, lead, obtain, peek, write
from runtime.cache.recipes import Recipe
from runtime.cache.stats import RegionStats, Tally

Value = TypeVar("Value")

BLOCKING: Final[Hands] = Blocking()
#: What ``Region.hit`` gives instead of a value.
MISSED: Final = object()


class Background:
    """Where values are loaded ahead of time, and where Redis is asked on behalf of tasks."""

    def __init__(self, refreshing: Executor, asking: Executor) -> None:
        self._refreshing = refreshing
        self._tasks: set[asyncio.Task[None]] = set()
        self.on_loop: Hands = OnLoop(asking)

    def run(self, work: Callable[[], None]) -> None:
        """Do this in another thread; not at all once the cache is closed."""
        try:
            self._refreshing.submit(work)
        except RuntimeError:
            return

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Do this in another task."""
        # The loop itself holds tasks weakly.
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class Region(Generic[Value]):
    """Values by key, as their recipe says. Thread-safe; made by ``Cache.region``.

    The values in memory are shared by all who get them: nobody may change them.
    """

    def __init__(
        self, prefix: str, version: int, recipe: Recipe, tiers: Tiers, vouch: Vouch, background: Background
    ) -> None:
        self.prefix = prefix
        self._chain = prefix_chain(prefix)
        self._version = version
        self._recipe = recipe
        self._tiers = tiers
        self._vouch = vouch
        self._background = background
        self._hits, self._misses = Tally(), Tally()
        self._find, self._now_s, self._hit = tiers.memory.find, tiers.clock.monotonic_s, self._hits.add

    def key(self, *arguments: object, tenant: str = "", tags: tuple[str, ...] = ()) -> Key:
        """The key of these arguments. Values of one key always have the same tags.

        Raises:
            NotCacheable: an argument has no canonical form.
        """
        dependencies = self._chain + tag_names(tags) if tags else self._chain
        return Key(name_of(self.prefix, self._version, tenant, arguments), dependencies)

    def hit(self, key: Key) -> Any:
        """The value if memory has it and it is not to be loaded anew yet, else ``MISSED``."""
        # Most calls are this and nothing else, so it is four lookups, two comparisons and no lock.
        entry = self._find(key.name)
        if entry is not None:
            now_s = self._now_s()
            if now_s < entry.fresh_s and (now_s < self._vouch.until_s or now_s < entry.seen_s + BLIND_S):
                self._hit()
                return entry.value
        return MISSED

    def get_or_load(self, key: Key, load: Callable[[], Value]) -> Value:
        """The value; ``load`` is called where it is nowhere, by one caller in all processes.

        Raises:
            NotCacheable: the codec does not take the value.
            Exception: what ``load`` raised, for all who waited for it; the next call tries again.
        """
        value = self.hit(key)
        return self._value(self._obtain(key, load)) if value is MISSED else value

    async def get_or_load_async(self, key: Key, load: Callable[[], Awaitable[Value]]) -> Value:
        """The same for tasks; Redis is asked in another thread.

        Raises:
            NotCacheable, Exception: as ``get_or_load``.
        """
        value = self.hit(key)
        return self._value(await self._obtain_async(key, load)) if value is MISSED else value

    def get(self, key: Key) -> Value | None:
        """The value, or None where neither tier has it, or has that there is none."""
        value = self.hit(key)
        if value is not MISSED:
            return value  # type: ignore[no-any-return]
        entry = self._known(key)
        if entry is not None and self._now_s() < entry.expires_s:
            self._hit()
        else:
            entry = peek(self._tiers, Want(key, self._recipe))
            (self._misses if entry is None else self._tiers.tallies.redis_hits).add()
        if entry is None or entry.absent or self._now_s() >= entry.expires_s:
            return None
        return entry.value  # type: ignore[no-any-return]

    async def get_async(self, key: Key) -> Value | None:
        """The same for tasks."""
        value = self.hit(key)
        return value if value is not MISSED else await self._background.on_loop.call(lambda: self.get(key))

    def put(self, key: Key, value: Value) -> bool:
        """Make this the value, in all processes; False where Redis does not take it: then it is so here alone, and
        the others load theirs.

        Raises:
            NotCacheable: the codec does not take it.
        """
        return run(write(self._tiers, Want(key, self._recipe), value, BLOCKING))

    async def put_async(self, key: Key, value: Value) -> bool:
        """The same for tasks."""
        return await write(self._tiers, Want(key, self._recipe), value, self._background.on_loop)

    def stats(self) -> RegionStats:
        """Hits of memory, and calls that were none."""
        return RegionStats(hits=self._hits.read(), misses=self._misses.read())

    def _obtain(self, key: Key, load: Callable[[], Value]) -> Entry:
        async def loading() -> Value:
            return load()

        known = self._known(key)
        if known and self._still_answers(known):
            if self._recipe.lifetime.early and self._tiers.memory.claim_refresh(known):
                self._background.run(lambda: run(self._refresh(key, known, loading, BLOCKING)))
            return known
        self._misses.add()
        want = Want(key, self._recipe, known)
        while True:
            flight, ours = self._tiers.memory.board(key)
            if ours:
                landed = self._landed(key, flight)
                return landed or run(lead(self._tiers, want, loading, BLOCKING, flight))
            if flight.is_of_this_thread():
                # A loader that asks for itself, or a task's load of this very loop.
                return run(obtain(self._tiers, want, loading, BLOCKING))
            try:
                return flight.wait()
            except Abandoned:
                continue

    async def _obtain_async(self, key: Key, load: Load) -> Entry:
        hands = self._background.on_loop
        known = self._known(key)
        if known and self._still_answers(known):
            if self._recipe.lifetime.early and self._tiers.memory.claim_refresh(known):
                self._background.start(self._refresh(key, known, load, hands))
            return known
        self._misses.add()
        want = Want(key, self._recipe, known)
        while True:
            flight, ours = self._tiers.memory.board(key, task=hands.task())
            if ours:
                landed = self._landed(key, flight)
                return landed or await lead(self._tiers, want, load, hands, flight)
            if flight.is_of_this_task():
                return await obtain(self._tiers, want, load, hands)
            try:
                return await flight.wait_async()
            except Abandoned:
                continue

    async def _refresh(self, key: Key, known: Entry, load: Load, hands: Hands) -> None:
        flight, ours = self._tiers.memory.board(key, task=hands.task())
        if not ours:
            return
        self._tiers.tallies.refreshes.add()
        try:
            await lead(self._tiers, Want(key, self._recipe, known, refresh=True), load, hands, flight)
        except Exception:
            # The value is good until its end; whoever asks after that is told what is wrong.
            return

    def _landed(self, key: Key, flight: Flight) -> Entry | None:
        """What another load has brought since the caller looked; then this flight is over."""
        entry = self._known(key)
        if entry is None or self._now_s() >= entry.expires_s:
            return None
        self._tiers.memory.land(flight, None)
        flight.succeed(entry)
        return entry

    def _known(self, key: Key) -> Entry | None:
        """The entry in memory, if that may be believed, however old it is."""
        entry, now_s = self._find(key.name), self._now_s()
        return entry if entry and (now_s < self._vouch.until_s or now_s < entry.seen_s + BLIND_S) else None

    def _still_answers(self, known: Entry) -> bool:
        if self._now_s() >= known.expires_s:
            return False
        self._hit()
        return True

    def _value(self, entry: Entry) -> Value:
        if entry.absent:
            raise self._recipe.error(entry.value)
        return entry.value  # type: ignore[no-any-return]
