"""Which instance a method's values belong to, without keeping it alive."""

import itertools
import weakref
from typing import Protocol

from runtime.cache.keys import NotCacheable
from schemas.errors import shown


class Identified(Protocol):
    """An instance that says what its methods' results depend on: those that say the same share them, everywhere."""

    def cache_key(self) -> object:
        """Typed, as an argument of a call would be."""


class Identities:
    """A number for each instance that lives. Thread-safe: each step is one operation of a dict."""

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._known: dict[int, tuple[weakref.ref[object], int]] = {}

    def __len__(self) -> int:
        return len(self._known)

    def of(self, instance: object) -> int:
        """A number that no other instance has had or will have.

        Raises:
            NotCacheable: it can't be referred to weakly.
        """
        address = id(instance)
        known = self._known.get(address)
        if known is not None:
            return known[1]
        try:
            # Called before the address is given to another object.
            reference = weakref.ref(instance, lambda _: self._known.pop(address, None))
        except TypeError as error:
            raise NotCacheable(
                f"{shown(instance)} would have to be kept alive for its cached results. Give its class a method "
                "cache_key(), or '__weakref__' among its slots."
            ) from error
        return self._known.setdefault(address, (reference, next(self._numbers)))[1]
