"""A cache of memory against a model: a value is found only if it was put or loaded, is young enough, and stands."""

from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from runtime.cache import Cache, Key, Lifetime, Limits, Lru, MsgspecCodec, Region, S3Fifo
from tests.unit.runtime.caching import Time

TTL_S, STALE_S, ABSENT_S = 10.0, 5.0, 3.0
LIFETIME = Lifetime(ttl_s=TTL_S, jitter=0, early=0, stale_s=STALE_S, absent_s=ABSENT_S)
PREFIXES = ("a", "a:b", "c")
TAGS = ("even", "odd")
OUTCOMES = st.sampled_from(["value", "gone", "error"])


class Gone(Exception):
    """There is nothing."""


@dataclass
class Held:
    """What the model knows of a key."""

    value: int | None
    expires_s: float
    stale_s: float


class AnyCache(RuleBasedStateMachine):
    """What the cache answers is what the model allows; what it forgets by itself is a miss, and never a wrong value."""

    @initialize(policy=st.sampled_from([Lru, S3Fifo]), entries=st.sampled_from([2, 100]))
    def open(self, policy: type[Lru] | type[S3Fifo], entries: int) -> None:
        self.time = Time()
        self.roomy = entries == 100
        self.cache = Cache(clock=self.time.clock, limits=Limits(entries=entries), policy=policy)
        self.regions = {
            prefix: self.cache.region(prefix, MsgspecCodec(int), LIFETIME, absent=Gone) for prefix in PREFIXES
        }
        self.model: dict[tuple[str, int], Held] = {}
        self.loads = 0

    def teardown(self) -> None:
        if hasattr(self, "cache"):
            self.cache.close()

    def at(self, prefix: str, number: int) -> tuple[Region[int], Key]:
        region = self.regions[prefix]
        return region, region.key(number, tags=(TAGS[number % 2],))

    def fresh(self, place: tuple[str, int]) -> Held | None:
        held = self.model.get(place)
        return held if held and self.time.now_s < held.expires_s else None

    @rule(prefix=st.sampled_from(PREFIXES), number=st.integers(0, 3))
    def get(self, prefix: str, number: int) -> None:
        region, key = self.at(prefix, number)
        found, held = region.get(key), self.fresh((prefix, number))
        if found is not None or self.roomy:
            assert found == (held.value if held else None)

    @rule(
        prefix=st.sampled_from(PREFIXES), number=st.integers(0, 3), outcome=st.sampled_from(["value", "gone", "error"])
    )
    def load(self, prefix: str, number: int, outcome: str) -> None:
        region, key = self.at(prefix, number)
        held, loads, answer = self.fresh((prefix, number)), self.loads, self.loads + 1

        def loader() -> int:
            self.loads += 1
            if outcome == "gone":
                raise Gone("nothing")
            if outcome == "error":
                raise ValueError("broken")
            return answer

        seen: object
        try:
            seen = region.get_or_load(key, loader)
        except (Gone, ValueError) as error:
            seen = type(error)
        if self.loads == loads:
            assert held is not None
            assert seen == (Gone if held.value is None else held.value)
            return
        assert held is None or not self.roomy
        self.note_load((prefix, number), outcome, answer, seen)

    def note_load(self, place: tuple[str, int], outcome: str, answer: int, seen: object) -> None:
        now_s, old = self.time.now_s, self.model.get(place)
        match outcome:
            case "value":
                assert seen == answer
                self.model[place] = Held(answer, now_s + TTL_S, now_s + TTL_S + STALE_S)
            case "gone":
                assert seen is Gone
                self.model[place] = Held(None, now_s + ABSENT_S, 0)
            case _ if seen is ValueError:
                assert not self.roomy or old is None or now_s >= old.stale_s
            case _:
                # Something past its time has stood in, and does for a second.
                assert old is not None
                assert now_s < old.stale_s
                assert seen == old.value
                old.expires_s = max(old.expires_s, min(old.stale_s, now_s + 1))

    @rule(prefix=st.sampled_from(PREFIXES), number=st.integers(0, 3), value=st.integers())
    def put(self, prefix: str, number: int, value: int) -> None:
        region, key = self.at(prefix, number)
        region.put(key, value)
        now_s = self.time.now_s
        self.model[prefix, number] = Held(value, now_s + TTL_S, now_s + TTL_S + STALE_S)

    @rule(seconds=st.sampled_from([0.5, 1.0, 3.0, 10.0]))
    def wait(self, seconds: float) -> None:
        self.time.pass_s(seconds)

    @rule(prefix=st.sampled_from(PREFIXES), number=st.integers(0, 3))
    def invalidate(self, prefix: str, number: int) -> None:
        self.cache.invalidate(self.at(prefix, number)[1].name)
        self.model.pop((prefix, number), None)

    @rule(tag=st.sampled_from(TAGS))
    def invalidate_tag(self, tag: str) -> None:
        self.cache.invalidate_tags(tag)
        self.model = {place: held for place, held in self.model.items() if TAGS[place[1] % 2] != tag}

    @rule(prefix=st.sampled_from(PREFIXES))
    def invalidate_prefix(self, prefix: str) -> None:
        self.cache.invalidate_prefix(prefix)
        self.model = {place: held for place, held in self.model.items() if not f"{place[0]}:".startswith(f"{prefix}:")}

    @rule()
    def clear(self) -> None:
        self.cache.clear()
        self.model.clear()

    @invariant()
    def nothing_is_left_over(self) -> None:
        if hasattr(self, "cache"):
            memory = self.cache._memory
            held = {name for names in memory._dependents.values() for name in names}
            assert len(held) == len(memory)
            assert not memory._flights


TestCacheAgainstAModel = AnyCache.TestCase
TestCacheAgainstAModel.settings = settings(deadline=None, max_examples=60, stateful_step_count=30)
