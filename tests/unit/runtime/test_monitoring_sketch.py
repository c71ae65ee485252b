"""The sketch of durations: right to 1 %, whatever is merged with what."""

import math
import random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.monitoring.exposition import BOUNDS_S
from runtime.monitoring.sketch import ACCURACY, BUCKETS, SHORTEST_S, Sketch, SketchInvalid, merged

durations = st.lists(st.floats(1e-9, 1e6), min_size=1, max_size=200)


def sketch_of(values: list[float]) -> Sketch:
    sketch = Sketch()
    sketch.add(values)
    return sketch


def within(found: float, exact: float) -> bool:
    return abs(found - exact) <= ACCURACY * exact * (1 + 1e-9)


@given(durations, st.floats(0, 1))
def test_a_quantile_is_right_to_one_percent(values: list[float], share: float) -> None:
    exact = sorted(values)[math.floor(share * (len(values) - 1))]
    assert within(sketch_of(values).quantile(share), exact)


@given(durations, durations)
def test_merging_is_the_same_as_having_seen_all(ours: list[float], theirs: list[float]) -> None:
    one, both = merged((sketch_of(ours), sketch_of(theirs))), sketch_of(ours + theirs)
    assert one.count == both.count
    assert [one.quantile(tenth / 10) for tenth in range(11)] == [both.quantile(tenth / 10) for tenth in range(11)]
    assert math.isclose(one.sum_s, both.sum_s)


@given(durations)
def test_a_sketch_survives_its_compact_form(values: list[float]) -> None:
    sketch = sketch_of(values)
    again = Sketch.decode(sketch.encode())
    assert (again.count, again.sum_s, again.min_s, again.max_s) == (
        sketch.count,
        sketch.sum_s,
        sketch.min_s,
        sketch.max_s,
    )
    assert [again.quantile(tenth / 10) for tenth in range(11)] == [sketch.quantile(tenth / 10) for tenth in range(11)]


@given(durations)
def test_only_what_is_within_two_percent_below_a_bound_may_miss_it(values: list[float]) -> None:
    counts = sketch_of(values).at_most(BOUNDS_S)
    for bound, count in zip(BOUNDS_S, counts, strict=True):
        assert sum(value <= bound * 0.98 for value in values) <= count <= sum(value <= bound for value in values)
    assert counts == sorted(counts)


@pytest.mark.parametrize("bound", BOUNDS_S)
def test_what_is_longer_than_a_bound_never_counts_below_it(bound: float) -> None:
    assert sketch_of([bound * 0.97, bound * 1.000001, bound * 1.01]).at_most([bound]) == [1]


def test_an_empty_sketch_has_no_percentiles_and_survives_the_wire() -> None:
    empty = Sketch.decode(Sketch().encode())
    assert empty.count == 0
    assert math.isnan(empty.quantile(0.5))
    assert math.isnan(empty.mean_s())
    assert merged((empty, sketch_of([1.0]))).min_s == 1.0


def test_no_time_at_all_counts_as_the_shortest() -> None:
    assert sketch_of([0.0, -1.0]).quantile(0.5) == SHORTEST_S


def test_memory_is_bounded_whatever_comes() -> None:
    draw = random.Random(1)
    sketch = sketch_of([10 ** draw.uniform(-9, 30) for _ in range(5_000)])
    assert len(sketch._store.bins) <= BUCKETS
    assert sketch.count == 5_000
    assert len(sketch.encode()) < 2 * BUCKETS


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\x00",
        msgspec.msgpack.encode([1, 0.01, 1.0, 1.0, 1.0, 0, [1] * (BUCKETS + 1)]),
        msgspec.msgpack.encode([1, 0.02, 1.0, 1.0, 1.0, 0, [1]]),
        msgspec.msgpack.encode([2, 0.01, 1.0, 1.0, 1.0, 0, [1]]),
        msgspec.msgpack.encode([1, 0.01, 1.0, 1.0, 1.0, 2**40, [1]]),
        msgspec.msgpack.encode([1, 0.01, 1.0, 1.0, 1.0, -(2**40), [1]]),
        msgspec.msgpack.encode([1, 0.01, 1.0, 1.0, 1.0, 0, [-1]]),
        msgspec.msgpack.encode([1, 0.01, math.nan, 1.0, 1.0, 0, [1]]),
        msgspec.msgpack.encode([1, 0.01, 1.0, 2.0, 1.0, 0, [1]]),
    ],
)
def test_bytes_that_are_no_sketch_are_refused(data: bytes) -> None:
    with pytest.raises(SketchInvalid):
        Sketch.decode(data)


@settings(max_examples=200)
@given(st.binary(max_size=60))
def test_no_bytes_do_worse_than_being_refused(data: bytes) -> None:
    try:
        sketch = Sketch.decode(data)
    except SketchInvalid:
        return
    sketch.merge(sketch_of([1.0]))
    assert sketch.quantile(0.5) >= 0
