"""Keys: two things share one only if they are the same, type for type."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from decimal import Decimal
from enum import Enum, Flag, IntEnum
from itertools import combinations
from pathlib import Path, PureWindowsPath
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct

from runtime.cache import NotCacheable
from runtime.cache.keys import canonical, name_of, prefix_chain, tag_names


class Colour(Enum):
    RED = 1


class Shade(IntEnum):
    RED = 1


class Access(Flag):
    READ = 1
    WRITE = 2


class Point(Struct, frozen=True):
    x: int


class Place(Struct, frozen=True):
    x: int


@dataclass(frozen=True)
class Spot:
    x: int


DIFFERENT = [
    None, True, False, 1, 0, 1.0, 0.0, -0.0, math.inf, 1 + 0j, "1", b"1", "", b"", (), [], {}, set(), frozenset(),
    (1,), [1], {1}, frozenset({1}), {1: 1}, {"1": 1}, ((1,),), ((1.0,),), ((True,),), (("a", "b"),), ("a", ("b",)),
    ("a", "bc"), ("ab", "c"), ("abc",), ("a", None), Colour.RED, Shade.RED, Point(1), Place(1), Spot(1), int, bool,
    date(2026, 1, 1), datetime(2026, 1, 1), datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, fold=1),
    timedelta(1), Decimal("1"), Decimal("1.0"), UUID(int=1), Path("1"), PureWindowsPath("1"), -1,
    Access(0), Access.READ, Access.READ | Access.WRITE,
    *(datetime(2026, 1, 1, tzinfo=ZoneInfo(zone)) for zone in ("Europe/Paris", "Africa/Lagos")), time(12),
    *(time(12, tzinfo=zone) for zone in (UTC, ZoneInfo("Europe/Paris"), ZoneInfo("America/New_York"))),
    10**30, "é", "e\u0301", "\ud800",
]  # fmt: skip

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
VALUES = st.recursive(
    SCALARS,
    lambda each: st.lists(each, max_size=3) | st.lists(each, max_size=3).map(tuple) | st.dictionaries(st.text(), each),
    max_leaves=8,
)


def test_what_differs_in_type_or_content_differs_in_its_key() -> None:
    for left, right in combinations(DIFFERENT, 2):
        assert canonical(left) != canonical(right), (left, right)


def typed(value: object) -> object:
    """The value with its types beside it, so that 1 and True are not equal."""
    if isinstance(value, list | tuple):
        return type(value), [typed(each) for each in value]
    if isinstance(value, dict):
        return dict, sorted((key, repr(typed(each))) for key, each in value.items())
    return type(value), math.copysign(1, value) if isinstance(value, float) else 0, value


@settings(deadline=None, max_examples=50)
@given(VALUES, VALUES)
def test_keys_are_equal_exactly_where_values_are(left: Any, right: Any) -> None:
    assert (canonical(left) == canonical(right)) == (typed(left) == typed(right))


@settings(deadline=None, max_examples=50)
@given(st.dictionaries(st.text(), st.integers(), max_size=5), st.randoms())
def test_the_order_of_a_mapping_does_not_matter(mapping: dict[str, int], random: Any) -> None:
    items = list(mapping.items())
    random.shuffle(items)
    assert canonical(dict(items)) == canonical(mapping)
    assert canonical(set(mapping)) == canonical({name for name, _ in items})


def test_prefix_version_and_tenant_are_part_of_the_key() -> None:
    parts = [
        ("a", 1, "t", ("x",)), ("b", 1, "t", ("x",)), ("a", 2, "t", ("x",)), ("a", 1, "u", ("x",)),
        ("a", 1, "", ("t", "x")), ("a", 1, "tx", ()), ("a", 1, "t", ("y",)),
    ]  # fmt: skip
    names = {name_of(prefix, version, tenant, arguments) for prefix, version, tenant, arguments in parts}
    assert len(names) == 7


def test_a_key_is_the_same_in_every_process() -> None:
    # Written down once: a change here empties every Redis at a release.
    assert name_of("a:b", 1, "t", (1, "x", {"k": [1.5, None]})) == "e:a:b:fbbfc20f349c89ccef793dc6cfac20bd98c2fd3b"


@pytest.mark.parametrize("value", [object(), lambda: 0, bytearray(b"1"), (1, [object()]), iter([])])
def test_an_argument_without_a_canonical_form_is_an_error_that_names_its_type(value: object) -> None:
    with pytest.raises(NotCacheable, match="can't be part of a cache key"):
        canonical(value)


def test_a_class_derived_from_a_dataclass_is_refused_for_it_may_hold_more() -> None:
    class Marked(Spot):
        def __init__(self, x: int, mark: str) -> None:
            super().__init__(x)
            object.__setattr__(self, "mark", mark)

    with pytest.raises(NotCacheable, match="Marked can't be part of a cache key"):
        canonical(Marked(1, "a"))


def test_a_zone_without_a_name_is_refused() -> None:
    class Zone(tzinfo):
        """None of the library's."""

        def utcoffset(self, _: datetime | None) -> None:
            return None

        dst = tzname = utcoffset

    with pytest.raises(NotCacheable, match="has no name"):
        canonical(time(12, tzinfo=Zone()))


def test_arguments_that_hold_themselves_are_refused() -> None:
    endless: list[object] = []
    endless.append(endless)
    with pytest.raises(NotCacheable, match="deeper than"):
        canonical(endless)


@pytest.mark.parametrize("prefix", ["", ":", "a:", "a b", "a*", "a:b:c:d:e", "é"])
def test_a_prefix_that_could_be_mistaken_for_another_is_refused(prefix: str) -> None:
    with pytest.raises(NotCacheable, match="prefix"):
        prefix_chain(prefix)


def test_an_entry_depends_on_each_prefix_that_its_own_begins_with() -> None:
    assert prefix_chain("a:b:c") == ("p:a", "p:a:b", "p:a:b:c")


@pytest.mark.parametrize("tags", ["model", ("",), (1,), ("\ud800",)])
def test_tags_that_are_none_are_refused(tags: Any) -> None:
    check: Callable[[Any], object] = tag_names
    with pytest.raises(NotCacheable, match=r"[Tt]ag"):
        check(tags)
