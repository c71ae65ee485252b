"""Durations in bounded memory: their percentiles to 1 %, mergeable over windows, threads and processes.

A DDSketch (Masson, Rim and Lee, VLDB 2019, https://www.vldb.org/pvldb/vol12/p2195-masson.pdf): buckets that grow by the
factor gamma = (1 + a) / (1 - a) give every quantile to the relative accuracy a. The store and the mapping are
DataDog's; this adds values in bulk, keeps sum and extremes, and has a compact form for the wire.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import repeat
from operator import mul
from typing import Annotated, Final

import msgspec
from ddsketch import CollapsingLowestDenseStore, LogarithmicMapping
from msgspec import Meta, Struct

from schemas.errors import HeadraceError, shown

ACCURACY: Final = 0.01
#: 2,048 buckets of 2 % reach from a nanosecond to nineteen years: 64 KB at most, about 3 KB as a rule. Beyond that the
#: shortest durations would be taken together.
BUCKETS: Final = 2_048
#: Shorter ones count as this; clocks tell no less.
SHORTEST_S: Final = 1e-9
#: No duration's bucket lies outside: 1e-9 s to 1e12 s.
_KEYS: Final = (-1_100, 1_400)
_MAPPING: Final = LogarithmicMapping(ACCURACY)
#: Buckets per doubling, as the mapping has them.
_PER_DOUBLING: Final = math.log(2) / math.log(_MAPPING.gamma)


class SketchInvalid(HeadraceError):
    """Bytes that are no sketch, or one of another accuracy."""

    code = "invalid_sketch"


class _Wire(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    version: int
    accuracy: float
    sum_s: float
    min_s: float
    max_s: float
    first_key: int
    counts: Annotated[list[Annotated[int, Meta(ge=0, le=2**53)]], Meta(max_length=BUCKETS)]


class Sketch:
    """The distribution of durations in seconds. Not thread-safe."""

    def __init__(self) -> None:
        self._store = CollapsingLowestDenseStore(BUCKETS)
        self.sum_s = 0.0
        self.min_s = math.inf
        self.max_s = 0.0

    @property
    def count(self) -> int:
        """How many durations it holds."""
        return round(self._store.count)

    def add(self, durations_s: Sequence[float]) -> None:
        """Add many at once: about 0.2 µs each."""
        if not durations_s:
            return
        shortest_s = min(durations_s)
        if shortest_s < SHORTEST_S:
            shortest_s = SHORTEST_S
            durations_s = [max(SHORTEST_S, one) for one in durations_s]
        # Every step runs in C: this is half of what monitoring costs.
        doublings = map(mul, map(math.log2, durations_s), repeat(_PER_DOUBLING))
        self._add_buckets(Counter(map(math.ceil, doublings)))
        self.sum_s += sum(durations_s)
        self.min_s = min(self.min_s, shortest_s)
        self.max_s = max(self.max_s, *durations_s)

    def merge(self, other: "Sketch") -> None:
        """Add all that another sketch holds, to the same accuracy."""
        self._store.merge(other._store)
        self.sum_s += other.sum_s
        self.min_s = min(self.min_s, other.min_s)
        self.max_s = max(self.max_s, other.max_s)

    def quantile(self, share: float) -> float:
        """A duration that is within 1 % of the quantile; NaN of an empty sketch."""
        if not self._store.count:
            return math.nan
        key = self._store.key_at_rank(share * (self._store.count - 1))
        return min(max(_MAPPING.value(key), self.min_s), self.max_s)

    def mean_s(self) -> float:
        """Exact; NaN of an empty sketch."""
        return self.sum_s / self._store.count if self._store.count else math.nan

    def at_most(self, bounds_s: Sequence[float]) -> list[int]:
        """How many are at most as long as each of the ascending bounds. One within 2 % of a bound may miss it."""
        keys = [math.floor(_PER_DOUBLING * math.log2(bound)) for bound in bounds_s]
        counts, total, place = [], 0.0, 0
        bins, offset = self._store.bins, self._store.offset
        for key in keys:
            end = max(place, min(key - offset + 1, len(bins)))
            total += sum(bins[place:end])
            place = end
            counts.append(round(total))
        return counts

    def encode(self) -> bytes:
        """The compact form: a byte or two a bucket in use."""
        first, counts = 0, [round(count) for count in self._store.bins]
        while counts and not counts[-1]:
            counts.pop()
        while first < len(counts) and not counts[first]:
            first += 1
        low_s = self.min_s if counts else 0.0
        wire = _Wire(1, ACCURACY, self.sum_s, low_s, self.max_s, self._store.offset + first, counts[first:])
        return msgspec.msgpack.encode(wire)

    @classmethod
    def decode(cls, data: bytes) -> "Sketch":
        """The sketch of ``encode``'s bytes, which may come from anybody.

        Raises:
            SketchInvalid: they are not of this form or accuracy.
        """
        wire = _decode(data)
        sketch = cls()
        sketch._add_buckets({wire.first_key + place: count for place, count in enumerate(wire.counts) if count})
        if sketch._store.count:
            sketch.sum_s, sketch.min_s, sketch.max_s = wire.sum_s, wire.min_s, wire.max_s
        return sketch

    def _add_buckets(self, counts: Mapping[int, int]) -> None:
        # From the highest: the store then gives up none of those before it has to.
        for key in sorted(counts, reverse=True):
            self._store.add(key, counts[key])


def merged(sketches: Iterable[Sketch]) -> Sketch:
    """A new sketch of all that these hold."""
    total = Sketch()
    for sketch in sketches:
        total.merge(sketch)
    return total


def _decode(data: bytes) -> _Wire:
    try:
        wire = msgspec.msgpack.decode(data, type=_Wire)
    except msgspec.MsgspecError as error:
        raise SketchInvalid(f"{len(data):,} bytes are no sketch: {error}. Take what Sketch.encode gave.") from error
    if wire.version != 1 or wire.accuracy != ACCURACY:
        raise SketchInvalid(
            f"A sketch of version {wire.version} and accuracy {wire.accuracy} does not merge with ours of version 1 "
            f"and {ACCURACY}. Give both processes the same release."
        )
    low, high = _KEYS
    if not low <= wire.first_key <= high - len(wire.counts):
        raise SketchInvalid(f"A sketch begins at bucket {wire.first_key}; they go from {low} to {high}.")
    if not (0 <= wire.min_s <= wire.max_s < math.inf and 0 <= wire.sum_s < math.inf):
        raise SketchInvalid(f"A sketch's sum and extremes are no durations: {shown((wire.sum_s, wire.min_s))}.")
    return wire
