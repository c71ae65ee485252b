"""``@cache_result`` on functions, coroutine functions and methods."""

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import pytest

from runtime.cache import (
    Cache,
    CachedCoroutineFunction,
    CachedFunction,
    Lifetime,
    NotCacheable,
    cache_result,
    set_process_cache,
)


@pytest.fixture
def cache() -> Iterator[Cache]:
    with closing(Cache()) as cache:
        yield cache


def test_a_function_runs_once_for_the_same_arguments_however_they_are_passed(cache: Cache) -> None:
    calls: list[tuple[int, str]] = []

    @cache_result(key_prefix="add", ttl=60, cache=cache)
    def add(left: int, right: str = "r") -> str:
        """Adds."""
        calls.append((left, right))
        return f"{left}{right}"

    assert [add(1), add(1, "r"), add(left=1), add(right="r", left=1), add(1)] == ["1r"] * 5
    assert calls == [(1, "r")]
    assert (add.__name__, add.__doc__) == ("add", "Adds.")
    assert (add.cache_info().hits, add.cache_info().misses) == (4, 1)


def test_arguments_that_differ_in_type_alone_have_results_of_their_own(cache: Cache) -> None:
    @cache_result(key_prefix="type", ttl=60, cache=cache)
    def kind(value: object) -> str:
        return repr(value)

    for value in (1, 1.0, True, "1", b"1", 0.0, -0.0, (1,), (True,), [1], [1.0], None):
        assert [kind(value), kind(value)] == [repr(value)] * 2


def test_functions_that_share_a_prefix_share_no_results(cache: Cache) -> None:
    @cache_result(key_prefix="shared", ttl=60, cache=cache)
    def one(x: int) -> int:
        return x

    @cache_result(key_prefix="shared", ttl=60, cache=cache)
    def two(x: int) -> int:
        return -x

    assert (one(1), two(1), one(1), two(1)) == (1, -1, 1, -1)


def test_an_argument_that_can_be_no_key_is_an_error_at_the_call(cache: Cache) -> None:
    @cache_result(key_prefix="f", ttl=60, cache=cache)
    def f(x: object) -> str:
        return str(x)

    with pytest.raises(NotCacheable, match="object"):
        f(object())
    with pytest.raises(TypeError, match="missing"):
        f()  # type: ignore[call-arg]


def test_invalidate_forgets_one_call_and_invalidate_all_forgets_all(cache: Cache) -> None:
    calls: list[int] = []

    @cache_result(key_prefix="f", ttl=60, cache=cache)
    def f(x: int) -> int:
        calls.append(x)
        return x

    f(1), f(2)
    assert f.invalidate(x=1)
    f(1), f(2)
    assert calls == [1, 2, 1]
    assert f.invalidate_all()
    f(1), f(2)
    assert calls == [1, 2, 1, 1, 2]


def test_tags_may_depend_on_the_arguments(cache: Cache) -> None:
    calls: list[str] = []

    @cache_result(key_prefix="f", ttl=60, cache=cache, tags=lambda model: (f"model-{model}",))
    def f(model: str) -> str:
        calls.append(model)
        return model

    f("a"), f("b")
    cache.invalidate_tags("model-a")
    f("a"), f("b")
    assert calls == ["a", "b", "a"]


def test_a_coroutine_function_is_awaited_once(cache: Cache) -> None:
    calls: list[int] = []

    @cache_result(key_prefix="f", ttl=60, cache=cache)
    async def f(x: int) -> int:
        calls.append(x)
        await asyncio.sleep(0)
        return x

    async def run() -> list[int]:
        return [*await asyncio.gather(*(f(1) for _ in range(5))), await f(1)]

    assert isinstance(f, CachedCoroutineFunction)
    assert asyncio.run(run()) == [1] * 6
    assert calls == [1]
    assert f.invalidate(1)
    assert asyncio.run(run()) == [1] * 6
    assert calls == [1, 1]


class Model:
    """Two of them are never the same."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.calls = 0


def method_of(cache: Cache) -> type[Model]:
    class Cached(Model):
        @cache_result(key_prefix="method", ttl=60, cache=cache)
        def ask(self, prompt: str, times: int = 1) -> str:
            self.calls += 1
            return f"{self.name} {prompt * times}"

        @cache_result(key_prefix="amethod", ttl=60, cache=cache)
        async def ask_async(self, prompt: str) -> str:
            self.calls += 1
            return f"{self.name} {prompt}"

        @classmethod
        @cache_result(key_prefix="cmethod", ttl=60, cache=cache)
        def of_class(cls, x: int) -> str:
            return f"{cls.__name__} {x}"

        @staticmethod
        @cache_result(key_prefix="smethod", ttl=60, cache=cache)
        def static(x: int) -> int:
            return x

    return Cached


def test_methods_keep_results_for_each_instance(cache: Cache) -> None:
    kind = method_of(cache)
    one, two = kind("one"), kind("two")
    for each in (one, two):
        assert [each.ask("a"), each.ask("a", 1), each.ask(prompt="a")] == [f"{each.name} a"] * 3  # type: ignore[attr-defined]
        assert each.calls == 1
    assert one.ask.invalidate("a")  # type: ignore[attr-defined]
    one.ask("a"), two.ask("a")  # type: ignore[attr-defined]
    assert (one.calls, two.calls) == (2, 1)
    assert asyncio.run(one.ask_async("b")) == "one b"  # type: ignore[attr-defined]
    assert kind.of_class(1) == "Cached 1"  # type: ignore[attr-defined]
    assert kind.static(1) == one.static(1) == 1  # type: ignore[attr-defined]


def test_a_cached_method_does_not_keep_its_instance_alive(cache: Cache) -> None:
    kind = method_of(cache)
    one = kind("one")
    one.ask("a")  # type: ignore[attr-defined]
    gone = weakref.ref(one)
    del one
    gc.collect()
    assert gone() is None
    ask = kind.__dict__["ask"]
    assert isinstance(ask, CachedFunction)
    assert len(ask._identities) == 0


def test_a_new_instance_at_the_address_of_an_old_one_gets_nothing_of_it(cache: Cache) -> None:
    kind = method_of(cache)
    for number in range(200):
        one = kind(str(number))
        assert one.ask("a") == f"{number} a"  # type: ignore[attr-defined]
        del one


@dataclass(frozen=True)
class Named:
    name: str
    calls: list[str]

    def cache_key(self) -> object:
        return self.name

    __hash__ = None  # type: ignore[assignment]


def test_instances_that_say_who_they_are_share_results(cache: Cache) -> None:
    class Asked(Named):
        @cache_result(key_prefix="named", ttl=60, cache=cache)
        def ask(self, prompt: str) -> str:
            self.calls.append(prompt)
            return f"{self.name} {prompt}"

    calls: list[str] = []
    assert [Asked("a", calls).ask("x"), Asked("a", calls).ask("x"), Asked("b", calls).ask("x")] == ["a x", "a x", "b x"]
    assert calls == ["x", "x"]


def test_an_instance_that_could_only_be_kept_alive_is_refused(cache: Cache) -> None:
    class Slotted:
        __slots__ = ()

        @cache_result(key_prefix="f", ttl=60, cache=cache)
        def f(self) -> int:
            return 1

    with pytest.raises(NotCacheable, match="cache_key"):
        Slotted().f()


def test_without_a_cache_that_of_the_process_is_used_from_the_moment_it_is_set(cache: Cache) -> None:
    @cache_result(key_prefix="process", ttl=Lifetime(ttl_s=60))
    def f(x: int) -> int:
        return x

    try:
        f(1)
        set_process_cache(cache)
        f(1)
        assert cache.stats().loads == 1
        f(1)
        assert cache.stats().memory_hits == 1
    finally:
        set_process_cache(None)


def test_a_cache_that_is_set_while_a_function_looks_for_one_is_the_one_that_it_gets(cache: Cache) -> None:
    with closing(Cache()) as first:
        set_process_cache(first)

        @cache_result(key_prefix="process", ttl=60)
        def f(x: int) -> int:
            return x

        region = first.region

        def late(*args: Any, **kwargs: Any) -> Any:
            set_process_cache(cache)
            return region(*args, **kwargs)

        first.region = late  # type: ignore[method-assign]  # the moment between two steps
        try:
            f(1), f(1)
            assert (cache.stats().loads, first.stats().loads) == (1, 0)
        finally:
            set_process_cache(None)


def test_a_generator_is_refused_where_it_is_written(cache: Cache) -> None:
    def lines() -> Iterator[str]:
        yield "a"

    async def lines_async() -> AsyncIterator[str]:
        yield "a"

    for generator in (lines, lines_async):
        with pytest.raises(NotCacheable, match="is a generator"):
            cache_result(key_prefix="f", ttl=60, cache=cache)(generator)


def test_what_is_no_time_is_refused_where_it_is_written() -> None:
    with pytest.raises(ValueError, match="ttl_s"):
        cache_result(key_prefix="f", ttl=0)


def test_long_arguments_are_not_held_for_the_sake_of_their_keys(cache: Cache) -> None:
    @cache_result(key_prefix="long", ttl=60, cache=cache)
    def f(prompt: str) -> int:
        return len(prompt)

    assert [f("x" * 10_000), f("x" * 10_000), f("x")] == [10_000, 10_000, 1]
    assert f.cache_info().hits == 1
    assert len(f._keys) == 1
