"""The policies: bounds that always hold, the right order, and scans that flush nothing."""

from collections import OrderedDict
from typing import ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from runtime.cache import Limits, Lru, Policy, S3Fifo
from runtime.cache.entries import Entry

NAMES = st.integers(0, 30).map(str)
SIZES = st.integers(1, 60)


class AnyPolicy(RuleBasedStateMachine):
    """Whatever is done, the bounds hold, the sums are right, and nothing is found that was not added last."""

    kind: ClassVar[type[Lru] | type[S3Fifo]] = Lru

    @initialize(entries=st.integers(1, 12), size_bytes=st.integers(1, 200))
    def open(self, entries: int, size_bytes: int) -> None:
        self.policy: Policy = self.kind(Limits(entries=entries, size_bytes=size_bytes))
        self.limits = Limits(entries=entries, size_bytes=size_bytes)
        self.held: dict[str, Entry] = {}

    @rule(name=NAMES, size_bytes=SIZES)
    def add(self, name: str, size_bytes: int) -> None:
        entry = Entry(name, object(), size_bytes)
        evicted = self.policy.add(entry)
        self.held[name] = entry
        for each in evicted:
            assert self.held.pop(each.name) is each
        if size_bytes <= self.limits.size_bytes:
            assert self.policy.peek(name) is entry

    @rule(name=NAMES)
    def find(self, name: str) -> None:
        assert self.policy.find(name) is self.held.get(name)

    @rule(name=NAMES)
    def remove(self, name: str) -> None:
        assert self.policy.remove(name) is self.held.pop(name, None)

    @rule()
    def clear(self) -> None:
        assert {each.name for each in self.policy.clear()} == set(self.held)
        self.held.clear()

    @invariant()
    def bounds_hold(self) -> None:
        if hasattr(self, "policy"):
            assert len(self.policy) == len(self.held) <= self.limits.entries
            assert self.policy.size_bytes == sum(each.size_bytes for each in self.held.values())
            assert self.policy.size_bytes <= self.limits.size_bytes
            assert all(self.policy.peek(name) is entry for name, entry in self.held.items())


class AnyS3Fifo(AnyPolicy):
    kind = S3Fifo


TestLruKeepsItsBounds = AnyPolicy.TestCase
TestS3FifoKeepsItsBounds = AnyS3Fifo.TestCase
TestLruKeepsItsBounds.settings = TestS3FifoKeepsItsBounds.settings = settings(deadline=None, max_examples=40)


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 8).map(str)), max_size=60))
def test_lru_evicts_what_was_not_used_for_longest(steps: list[tuple[bool, str]]) -> None:
    policy, model = Lru(Limits(entries=4)), OrderedDict[str, None]()
    for adds, name in steps:
        if adds:
            policy.add(Entry(name, None, 1))
            model[name] = None
            model.move_to_end(name)
            if len(model) > 4:
                model.popitem(last=False)
        elif policy.find(name):
            model.move_to_end(name)
        assert {name for name in map(str, range(9)) if policy.peek(name)} == set(model)


def test_a_scan_flushes_lru_and_not_s3_fifo() -> None:
    kept = {}
    for kind in (Lru, S3Fifo):
        policy = kind(Limits(entries=100))
        for _ in range(4):
            for name in map(str, range(50)):
                if not policy.find(name):
                    policy.add(Entry(name, None, 1))
        for name in map(str, range(1_000, 2_000)):
            policy.add(Entry(name, None, 1))
        kept[kind] = sum(policy.peek(str(name)) is not None for name in range(50))
    assert kept == {Lru: 0, S3Fifo: 50}


def test_s3_fifo_takes_what_comes_back_into_the_main_queue() -> None:
    policy = S3Fifo(Limits(entries=10))
    for name in map(str, range(12)):
        policy.add(Entry(name, None, 1))
    assert policy.peek("0") is None

    policy.add(Entry("0", None, 1))
    for name in map(str, range(100, 150)):
        policy.add(Entry(name, None, 1))

    assert policy.peek("0") is not None


@pytest.mark.parametrize("kind", [Lru, S3Fifo])
def test_a_value_larger_than_the_cache_evicts_itself_alone(kind: type[Lru] | type[S3Fifo]) -> None:
    policy = kind(Limits(entries=10, size_bytes=100))
    policy.add(Entry("small", None, 10))
    large = Entry("large", None, 101)

    assert policy.add(large) == [large]
    assert policy.peek("small") is not None


def test_limits_of_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Limits(entries=0)
