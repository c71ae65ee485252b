"""A process' metrics as one event."""

from itertools import pairwise

from runtime.monitoring import Metrics
from schemas.codec import decode, encode
from schemas.events import MetricFamily, MetricsEvent


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


def test_a_histogram_has_its_buckets_sum_and_count() -> None:
    metrics = Metrics("test")
    metrics.histogram("headrace_test_wait_seconds", "Waits.", bounds=(0.1, 1.0)).observe(0.5)
    found = family(metrics.event(), "headrace_test_wait_seconds")
    assert found.type == "histogram"
    assert [(item.labels.get("le"), item.value) for item in found.samples if item.name.endswith("_bucket")] == [
        ("0.1", 0.0),
        ("1.0", 1.0),
        ("+Inf", 1.0),
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
