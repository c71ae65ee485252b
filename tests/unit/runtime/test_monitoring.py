"""A process' metrics as one event."""

import itertools
import random
import threading
from collections.abc import Iterator
from itertools import pairwise
from typing import cast

import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from runtime.kafka import Publisher
from runtime.monitoring import Metrics, MetricsReporter
from runtime.monitoring.buckets import with_empty
from schemas.codec import decode, encode
from schemas.events import MetricFamily, MetricsEvent, Sample
from schemas.limits import BUCKETS
from schemas.topics import Topic


def family(event: MetricsEvent, name: str) -> MetricFamily:
    return next(item for item in event.families if item.name == name)


def test_a_counter_is_cumulative_and_keeps_its_labels() -> None:
    metrics = Metrics("test")
    counter = metrics.counter("headrace_test_things_total", "Things.", ("kind",))
    counter.labels("a").inc(2)
    metrics.event()
    counter.labels("a").inc()
    (sample,) = family(metrics.event(), "headrace_test_things").samples
    assert (sample.name, sample.value, sample.labels) == ("headrace_test_things_total", 3.0, {"kind": "a"})


def test_a_histogram_has_the_buckets_that_hold_something_with_its_bounds_sum_and_count() -> None:
    metrics = Metrics("test")
    waits = metrics.histogram("headrace_test_wait_seconds", "Waits.", ("kind",), bounds=(0.1, 0.2, 1.0, 2.0))
    waits.labels("a").observe(0.5)
    waits.labels("b")
    waits.labels("c").observe(0.05)
    found = family(metrics.event(), "headrace_test_wait_seconds")
    assert found.type == "histogram"
    assert found.bounds == ("0.1", "0.2", "1.0", "2.0", "+Inf")
    buckets = [item for item in found.samples if item.name.endswith("_bucket")]
    assert [(item.labels["kind"], item.labels["le"], item.value) for item in buckets] == [
        ("a", "1.0", 1.0),
        ("a", "+Inf", 1.0),
        ("b", "+Inf", 0.0),
        ("c", "0.1", 1.0),
        ("c", "+Inf", 1.0),
    ]
    others = [(item.labels["kind"], item.value) for item in found.samples if item.name.endswith("_sum")]
    assert others == [("a", 0.5), ("b", 0.0), ("c", 0.05)]


def test_what_an_event_leaves_out_is_put_back_in_its_place() -> None:
    metrics, draw = Metrics("test"), random.Random(1)
    waits = metrics.histogram("headrace_test_wait_seconds", "Waits.", ("kind",))
    for kind in range(50):
        for _ in range(draw.randrange(4)):
            waits.labels(str(kind)).observe(10 ** draw.uniform(-4, 4))
    (metric,) = waits.collect()
    told = family(metrics.event(), "headrace_test_wait_seconds")
    whole = [(one.name, one.value, one.labels) for one in metric.samples if not one.name.endswith("_created")]
    assert [(one.name, one.value, one.labels) for one in with_empty(told)] == whole
    assert len(told.samples) < len(whole) / 2


def test_a_histogram_of_more_buckets_than_are_taken_is_told_whole() -> None:
    metrics = Metrics("test")
    bounds = tuple(float(number) for number in range(BUCKETS))
    metrics.histogram("headrace_test_wait_seconds", "Waits.", bounds=bounds)
    found = family(decode(MetricsEvent, encode(metrics.event())), "headrace_test_wait_seconds")
    assert (found.bounds, len(list(with_empty(found)))) == ((), len(found.samples))
    assert sum(one.name.endswith("_bucket") for one in found.samples) == BUCKETS + 1


def test_buckets_in_any_order_are_taken_as_they_come() -> None:
    samples = tuple(Sample("headrace_x_bucket", 1.0, {"le": bound}) for bound in ("2.0", "+Inf", "1.0", "5.0"))
    found = list(with_empty(MetricFamily("headrace_x", "histogram", "X.", samples, ("1.0", "2.0", "+Inf"))))
    assert [(one.labels["le"], one.value) for one in found] == [
        ("1.0", 0.0),
        ("2.0", 1.0),
        ("+Inf", 1.0),
        ("1.0", 1.0),
        ("5.0", 1.0),
    ]


def test_events_are_numbered_and_name_this_life_of_the_process() -> None:
    first_life, second_life = Metrics("test"), Metrics("test")
    events = [first_life.event() for _ in range(3)]
    assert all(later.sequence == earlier.sequence + 1 for earlier, later in pairwise(events))
    assert first_life.source != second_life.source


def test_a_metric_without_values_is_left_out() -> None:
    metrics = Metrics("test")
    metrics.counter("headrace_test_things_total", "Things.", ("kind",))
    assert not [item for item in metrics.event().families if item.name == "headrace_test_things"]


def test_the_event_survives_the_wire() -> None:
    metrics = Metrics("test")
    metrics.gauge("headrace_test_depth", "Depth.").set(7)
    event = metrics.event()
    assert decode(MetricsEvent, encode(event)) == event


class Flaky(Collector):
    """Fails in these of its readings."""

    def __init__(self, failing: set[int]) -> None:
        self._failing = failing
        self._readings = itertools.count()

    def collect(self) -> Iterator[Metric]:
        if next(self._readings) in self._failing:
            raise RuntimeError("the disk was unplugged")
        return iter(())


class Announced:
    """A publisher that counts; ``enough`` is set by the third event."""

    def __init__(self) -> None:
        self.events: list[MetricsEvent] = []
        self.enough = threading.Event()

    def publish(self, _topic: Topic, event: MetricsEvent, **_envelope: str) -> None:
        self.events.append(event)
        if len(self.events) == 3:
            self.enough.set()


def test_a_collector_that_fails_for_a_while_is_told_once_and_ends_no_metrics(caplog: pytest.LogCaptureFixture) -> None:
    metrics, publisher = Metrics("test"), Announced()
    metrics.add(Flaky({1, 2}))
    reporter = MetricsReporter(metrics, cast(Publisher, publisher), 0.001)
    try:
        assert publisher.enough.wait(30)
    finally:
        reporter.close()
    assert caplog.text.count("could not be published") == 1
    assert "the disk was unplugged" in caplog.text
