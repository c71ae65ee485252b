"""``@cache_result``: a function, coroutine function or method whose results are kept."""

import functools
import inspect
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final, Generic, ParamSpec, Protocol, TypeVar, get_type_hints, overload

from runtime.cache.cache import Cache
from runtime.cache.codecs import Codec, MsgspecCodec
from runtime.cache.identities import Identities
from runtime.cache.keys import Key, NotCacheable
from runtime.cache.lifetimes import Lifetime
from runtime.cache.process import process_cache
from runtime.cache.regions import MISSED, Region
from runtime.cache.stats import RegionStats
from schemas.errors import shown

P = ParamSpec("P")
R = TypeVar("R")

#: Calls whose keys are remembered, so that a hit does not have to make one; then all are forgotten.
KEYS_REMEMBERED: Final = 4_096
#: Longer texts are not remembered: they would take more memory than the cache.
LONGEST_REMEMBERED: Final = 256

Tags = tuple[str, ...] | Callable[..., tuple[str, ...]]


@dataclass(frozen=True)
class Options:
    """How a function's results are kept; see ``cache_result``."""

    key_prefix: str
    lifetime: Lifetime
    cache: Cache | None
    codec: Codec[Any] | None
    version: int
    tags: Tags
    absent: type[Exception] | None


class CachedFunction(Generic[P, R]):
    """A function whose results are kept by its arguments, however they are passed. Thread-safe."""

    __name__: str

    def __init__(self, function: Callable[P, Any], options: Options) -> None:
        functools.update_wrapper(self, function)
        self._function = function
        self._call: Callable[..., Any] = function
        self._options = options
        self._signature = inspect.signature(function)
        self._name = f"{function.__module__}.{function.__qualname__}"
        self._identities = Identities()
        self._keys: dict[tuple[object, ...], Key] = {}
        #: What is shared through Redis, and what belongs to instances of this process.
        self._regions: tuple[Region[Any], Region[Any]] | None = None

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """The function's result for these arguments."""
        try:
            key = self._keys[args, tuple(map(type, args))] if not kwargs else self.key(args, kwargs)
        except (KeyError, TypeError):
            key = self.key(args, kwargs)
        shared, _ = self._regions or self._bind()
        return self._ask(shared, key, args, kwargs)  # type: ignore[no-any-return]

    @overload
    def __get__(self, instance: None, owner: type | None = None) -> "CachedFunction[P, R]": ...
    @overload
    def __get__(self, instance: object, owner: type | None = None) -> "BoundFunction[R]": ...
    def __get__(self, instance: object, owner: type | None = None) -> "CachedFunction[P, R] | BoundFunction[R]":
        return self if instance is None else BoundFunction(self, instance)

    def key(self, args: tuple[object, ...], kwargs: dict[str, object]) -> Key:
        """The key of a call.

        Raises:
            TypeError: the function can't be called like this.
            NotCacheable: an argument has no canonical form.
        """
        key = self._key(args, kwargs, None)
        self._remember((args, tuple(map(type, args))), args, kwargs, key)
        return key

    def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Forget the result for these arguments, in all processes; False where Redis has still to be told."""
        return self._cache().invalidate(self._key(args, kwargs, None).name)

    def invalidate_all(self) -> bool:
        """Forget all results under the key's prefix."""
        return self._cache().invalidate_prefix(self._options.key_prefix)

    def cache_info(self) -> RegionStats:
        """The function's hits in memory, and its other calls."""
        both = [region.stats() for region in self._regions or self._bind()]
        return RegionStats(hits=sum(each.hits for each in both), misses=sum(each.misses for each in both))

    def unbind(self) -> None:
        """Ask for the cache of the process anew."""
        self._regions = None

    def call_bound(self, instance: object, args: tuple[object, ...], kwargs: dict[str, object]) -> Any:
        """The method's result."""
        region, key = self._bound(instance, args, kwargs)
        return self._ask(region, key, (instance, *args), kwargs)

    def invalidate_bound(self, instance: object, args: tuple[object, ...], kwargs: dict[str, object]) -> bool:
        """Forget the method's result for these arguments."""
        _, key = self._bound(instance, args, kwargs)
        return self._cache().invalidate(key.name)

    def _ask(self, region: Region[Any], key: Key, args: tuple[object, ...], kwargs: dict[str, object]) -> Any:
        value = region.hit(key)
        if value is MISSED:
            return region.get_or_load(key, functools.partial(self._call, *args, **kwargs))
        return value

    def _bound(self, instance: object, args: tuple[object, ...], kwargs: dict[str, object]) -> tuple[Region[Any], Key]:
        shared, own = self._regions or self._bind()
        # ``isinstance`` of a protocol would take longer than all the rest.
        identify = getattr(instance, "cache_key", None)
        if isinstance(instance, type):
            identity: object = instance
        elif identify is not None:
            identity = (type(instance), identify())
        else:
            return own, self._own_key(instance, args, kwargs)
        return shared, self._key((instance, *args), kwargs, identity)

    def _own_key(self, instance: object, args: tuple[object, ...], kwargs: dict[str, object]) -> Key:
        number = self._identities.of(instance)
        call = (number, args, tuple(map(type, args)))
        try:
            if not kwargs:
                return self._keys[call]
        except (KeyError, TypeError):
            pass
        key = self._key((instance, *args), kwargs, number)
        self._remember(call, args, kwargs, key)
        return key

    def _key(self, args: tuple[object, ...], kwargs: dict[str, object], identity: object) -> Key:
        call = self._signature.bind(*args, **kwargs)
        call.apply_defaults()
        tags = self._options.tags
        shared, _ = self._regions or self._bind()
        named = tags if isinstance(tags, tuple) else tags(*args, **kwargs)
        arguments = dict(call.arguments)
        if identity is not None:
            # Instead of ``self``, whatever that is called.
            arguments[next(iter(arguments))] = identity
        return shared.key(self._name, identity is not None, arguments, tags=named)

    def _remember(
        self, call: tuple[object, ...], args: tuple[object, ...], kwargs: dict[str, object], key: Key
    ) -> None:
        if kwargs or not all(map(_is_remembered, args)):
            return
        if len(self._keys) >= KEYS_REMEMBERED:
            self._keys.clear()
        self._keys[call] = key

    def _cache(self) -> Cache:
        return self._options.cache or process_cache(self)

    def _bind(self) -> tuple[Region[Any], Region[Any]]:
        while True:
            cache = self._cache()
            self._regions = regions = self._regions_of(cache)
            # Another one may have become that of the process since: then nobody unbinds these any more.
            if self._cache() is cache:
                return regions

    def _regions_of(self, cache: Cache) -> tuple[Region[Any], Region[Any]]:
        options = self._options
        codec = options.codec or MsgspecCodec(get_type_hints(self._function).get("return", Any))
        shared, own = (
            cache.region(
                options.key_prefix,
                codec,
                options.lifetime,
                version=options.version,
                absent=options.absent,
                shared=share,
            )
            for share in (True, False)
        )
        return shared, own


def _is_remembered(argument: object) -> bool:
    """Whether arguments of its type are equal only if they are the same, and it is small."""
    match argument:
        case None | bool() | int():
            return type(argument) in (type(None), bool, int)
        case float():
            # Of the zeros there are two.
            return type(argument) is float and argument != 0
        case str() | bytes():
            return type(argument) in (str, bytes) and len(argument) <= LONGEST_REMEMBERED
        case _:
            return False


class CachedCoroutineFunction(CachedFunction[P, Awaitable[R]], Generic[P, R]):
    """The same for a coroutine function."""

    def _ask(self, region: Region[Any], key: Key, args: tuple[object, ...], kwargs: dict[str, object]) -> Any:
        return region.get_or_load_async(key, functools.partial(self._call, *args, **kwargs))


class BoundFunction(Generic[R]):
    """A cached method of an instance, which it keeps alive only as long as any bound method does."""

    __slots__ = ("_function", "_instance")

    def __init__(self, function: CachedFunction[Any, R], instance: object) -> None:
        self._function = function
        self._instance = instance

    def __call__(self, *args: Any, **kwargs: Any) -> R:
        """The method's result for these arguments."""
        result: R = self._function.call_bound(self._instance, args, kwargs)
        return result

    def invalidate(self, *args: Any, **kwargs: Any) -> bool:
        """Forget this instance's result for these arguments; False where Redis has still to be told."""
        return self._function.invalidate_bound(self._instance, args, kwargs)

    def cache_info(self) -> RegionStats:
        """The counts of all instances together."""
        return self._function.cache_info()


class Decorator(Protocol):
    """What ``cache_result`` gives."""

    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]]) -> CachedCoroutineFunction[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R]) -> CachedFunction[P, R]: ...


def cache_result(
    *,
    key_prefix: str,
    ttl: float | Lifetime,
    cache: Cache | None = None,
    codec: Codec[Any] | None = None,
    version: int = 1,
    tags: Tags = (),
    absent: type[Exception] | None = None,
) -> Decorator:
    """Keep a function's results for ``ttl`` seconds; with a ``Lifetime``, also early refresh and what else it says.

    The key is made of the prefix, the version, the function's name and all its arguments, typed; two spellings of one
    call share it. For a method, ``self`` is what its ``cache_key()`` says; without one, results are of that instance
    and this process alone. ``tags`` may be a function of the call's arguments. Results are read back as the annotated
    type, or by ``codec``. ``cache`` is that of the process by default; see ``set_process_cache``.

    What a nested function finds around it is no part of the key, nor is what a function gets from elsewhere.

    Raises:
        ValueError: ``ttl`` is no time.
        NotCacheable: the function is a generator, which can be read only once.
    """
    lifetime = ttl if isinstance(ttl, Lifetime) else Lifetime(ttl_s=ttl)
    options = Options(key_prefix, lifetime, cache, codec, version, tags, absent)

    def decorate(function: Callable[..., Any]) -> CachedFunction[..., Any]:
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise NotCacheable(
                f"{shown(function)} is a generator: whoever called it next would find it empty. Return a tuple."
            )
        kind = CachedCoroutineFunction if inspect.iscoroutinefunction(function) else CachedFunction
        return kind(function, options)

    return decorate  # type: ignore[return-value]  # the overloads say which of the two it is
