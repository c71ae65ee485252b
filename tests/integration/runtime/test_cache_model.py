"""Processes on one Redis against a model: once an invalidation has been heard, nobody gets what was before it."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtime.cache import Cache, Limits, S3Fifo
from tests.integration.runtime.cache_sight import OpenCache, opener, texts, until

KEYS = st.integers(0, 2)
CACHES = st.integers(0, 2)
STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["load", "load", "load", "get", "put", "name", "tag", "prefix", "clear", "load and invalidate"]
        ),
        CACHES,
        KEYS,
        CACHES,
    ),
    max_size=25,
)


@pytest.fixture
def open_cache(redis_url: str) -> Iterator[OpenCache]:
    with opener(redis_url) as open_cache:
        yield open_cache


class Heard:
    """The names that a cache has heard of, once it has heeded them."""

    def __init__(self, cache: Cache) -> None:
        assert cache._listener is not None
        self._heed = cache._listener._on_names
        self._names: set[str] = set()
        cache._listener._on_names = self

    def __call__(self, names: tuple[str, ...]) -> None:
        self._heed(names)
        self._names.update(names)

    def of(self, name: str) -> bool:
        return name in self._names


@dataclass(frozen=True)
class Processes:
    """Caches as of three processes."""

    caches: list[Cache]
    ears: list[Heard]
    marks: Iterator[int]

    def hear(self) -> None:
        """Return once everybody has heeded what was published before."""
        for origin, cache in enumerate(self.caches):
            mark = f"mark-{next(self.marks)}"
            cache.invalidate_tags(mark)
            others = [ear for number, ear in enumerate(self.ears) if number != origin]
            until(lambda mark=mark, others=others: all(ear.of(f"t:{mark}") for ear in others))  # type: ignore[misc]


@pytest.fixture
def processes(open_cache: OpenCache) -> Processes:
    caches = [open_cache(), open_cache(policy=S3Fifo), open_cache(limits=Limits(entries=1))]
    return Processes(caches, [Heard(cache) for cache in caches], count())


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(STEPS)
def test_processes_agree_with_a_model(processes: Processes, steps: list[tuple[str, int, int, int]]) -> None:
    caches = processes.caches
    versions = count()
    truth = {key: f"{key} {next(versions)}" for key in range(3)}
    for cache in caches:
        cache.clear()
    processes.hear()
    for what, which, number, other in steps:
        cache, region = caches[which], texts(caches[which])
        key = region.key(number, tags=(f"tag-{number}",))

        def change(number: int = number) -> str:
            """A new truth for what is about to be invalidated; the old one."""
            old = truth[number]
            truth[number] = f"{number} {next(versions)}"
            return old

        match what:
            case "load":
                assert region.get_or_load(key, partial(truth.__getitem__, number)) == truth[number]
            case "get":
                assert region.get(key) in (None, truth[number])
            case "put":
                change()
                assert region.put(key, truth[number])
            case "name":
                change()
                assert cache.invalidate(key.name)
            case "tag":
                change()
                assert cache.invalidate_tags(f"tag-{number}")
            case "load and invalidate":

                def load(number: int = number, other: int = other) -> str:
                    old = change()
                    assert caches[other].invalidate_tags(f"tag-{number}")
                    return old

                region.get_or_load(key, load)
            case _:
                for each in truth:
                    change(each)
                assert cache.invalidate_prefix("texts") if what == "prefix" else cache.clear()
        processes.hear()
