"""The bridge from metrics events to Prometheus' page."""

import asyncio
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from runtime.monitoring import Metrics, OperationCollector, Operations, System, SystemCollector
from runtime.settings import InvalidSetting
from schemas.codec import encode
from schemas.events import MetricFamily, MetricsEvent, Sample
from streams.chunks import Chunk
from streams.instruments import Instruments
from streams.metrics import SILENT_S, SOURCES, Bridge, MetricsPage
from tests.unit.streams.records import NOW, FakeRecord

STAMP_MS = int(NOW.timestamp() * 1_000)


def event(
    source: str = "worker-1",
    sequence: int = 0,
    value: float = 1.0,
    *,
    family: MetricFamily | None = None,
) -> MetricsEvent:
    total = MetricFamily(
        "headrace_jobs", "counter", "Jobs.", (Sample("headrace_jobs_total", value, {"kind": "generate"}),)
    )
    return MetricsEvent(
        source=source,
        service="worker",
        sequence=sequence,
        at=datetime.now(UTC),
        families=(family or total,),
    )


@pytest.fixture
def metrics() -> Metrics:
    return Metrics("dispatcher")


@pytest.fixture
def bridge(metrics: Metrics) -> Bridge:
    return Bridge(Instruments(metrics))


def take(bridge: Bridge, *values: MetricsEvent | bytes | None, at_s: float = 0.0) -> None:
    """Have Kafka stamp them with this time, and the bridge read them."""
    raw = [encode(value) if isinstance(value, MetricsEvent) else value for value in values]
    records = [FakeRecord(value, timestamp=STAMP_MS + int(at_s * 1_000)) for value in raw]
    asyncio.run(bridge.events(Chunk(records)))


def page(bridge: Bridge) -> dict[tuple[str, str], float]:
    """The value of each sample, by its name and source."""
    registry = CollectorRegistry()
    registry.register(bridge)
    families = text_string_to_metric_families(generate_latest(registry).decode())
    samples = [sample for family in families for sample in family.samples]
    return {(sample.name, sample.labels["headrace_source"]): sample.value for sample in samples}


def counted(metrics: Metrics, fate: str) -> float:
    """How many events came to this."""
    families = {family.name: family for family in metrics.event().families}
    samples = families["headrace_bridge_events"].samples
    return sum(sample.value for sample in samples if sample.labels["fate"] == fate)


def test_the_latest_event_of_each_source_is_served(bridge: Bridge) -> None:
    take(bridge, event(value=1.0), event("worker-2", value=7.0), event(sequence=1, value=2.0))
    assert page(bridge) == {("headrace_jobs_total", "worker-1"): 2.0, ("headrace_jobs_total", "worker-2"): 7.0}


def test_a_repeated_or_late_event_changes_nothing(bridge: Bridge, metrics: Metrics) -> None:
    take(bridge, event(sequence=5, value=5.0), event(sequence=5, value=9.0), event(sequence=4, value=4.0))
    assert page(bridge) == {("headrace_jobs_total", "worker-1"): 5.0}
    assert counted(metrics, "repeated") == 2


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"\xff",
        b"{}",
        event(family=MetricFamily("jobs", "counter", "", ())),
        event(family=MetricFamily("headrace_x\n# HELP evil", "gauge", "", ())),
        event(family=MetricFamily("headrace_x", "gauge", "", (Sample("headrace_y", 1.0),))),
        event(family=MetricFamily("headrace_x", "counter", "", (Sample("headrace_x", 1.0),))),
        event(family=MetricFamily("headrace_x", "gauge", "", (Sample("headrace_x", 1.0, {'a="': "b"}),))),
        event(family=MetricFamily("headrace_x", "gauge", "", (Sample("headrace_x", 1.0, {"service": "mine"}),))),
    ],
)
def test_what_would_spoil_the_page_is_counted_and_ignored(
    bridge: Bridge, metrics: Metrics, value: MetricsEvent | bytes | None
) -> None:
    take(bridge, event("good"), value)
    assert list(page(bridge)) == [("headrace_jobs_total", "good")]
    assert counted(metrics, "malformed") == 1


def test_a_process_of_which_kafka_has_nothing_new_is_gone(bridge: Bridge) -> None:
    take(bridge, event("gone"))
    take(bridge, event("there"), at_s=SILENT_S)
    assert {source for _, source in page(bridge)} == {"gone", "there"}
    take(bridge, event("there", sequence=1), at_s=SILENT_S + 1)
    assert {source for _, source in page(bridge)} == {"there"}


def test_a_broker_whose_clock_is_behind_takes_nobody_from_the_page(bridge: Bridge) -> None:
    take(bridge, event("one"), event("two"))
    hour_back_s = -3_600.0
    take(bridge, event("one", sequence=1, value=2.0), at_s=hour_back_s)
    take(bridge, event("two", sequence=1, value=3.0), event("new", value=4.0), at_s=hour_back_s + 1)
    assert {source: value for (_, source), value in page(bridge).items()} == {"one": 2.0, "two": 3.0, "new": 4.0}


def test_a_process_whose_own_clock_is_an_hour_off_is_served(bridge: Bridge) -> None:
    hour = timedelta(hours=1)
    take(
        bridge,
        replace(event("behind"), at=datetime.now(UTC) - hour),
        replace(event("ahead"), at=datetime.now(UTC) + hour),
    )
    assert {source for _, source in page(bridge)} == {"behind", "ahead"}


def test_what_a_process_tells_of_its_operations_and_machine_is_served(tmp_path: Path, bridge: Bridge) -> None:
    operations, worker = Operations(), Metrics("worker")
    worker.add(OperationCollector(operations))
    worker.add(SystemCollector(System([tmp_path])))
    operations.of("artifacts.fetch").call(int)
    take(bridge, worker.event())
    served = page(bridge)
    assert served["headrace_operation_seconds_count", worker.source] == 1
    assert served["headrace_system_memory_limit_bytes", worker.source] > 0


def test_a_histogram_is_served_with_all_its_buckets_from_its_first_event_on(bridge: Bridge) -> None:
    worker = Metrics("worker")
    wait_s = worker.histogram("headrace_wait_seconds", "Waits.", bounds=(0.1, 0.5, 1.0))
    for seconds, wanted in ((0.2, [0, 1, 1, 1]), (0.7, [0, 1, 2, 2])):
        wait_s.observe(seconds)
        take(bridge, worker.event())
        (histogram,) = [metric for metric in bridge.collect() if metric.name == "headrace_wait_seconds"]
        buckets = [(one.labels["le"], one.value) for one in histogram.samples if one.name.endswith("_bucket")]
        assert buckets == list(zip(("0.1", "0.5", "1.0", "+Inf"), wanted, strict=True))
        assert {one.labels["headrace_source"] for one in histogram.samples} == {worker.source}


def test_two_processes_that_disagree_on_a_type_do_not_spoil_the_page(bridge: Bridge) -> None:
    other = MetricFamily("headrace_jobs", "gauge", "Jobs.", (Sample("headrace_jobs", 3.0),))
    take(bridge, event(), event("worker-2", family=other))
    assert page(bridge) == {("headrace_jobs_total", "worker-1"): 1.0}


def test_the_number_of_sources_is_bounded(bridge: Bridge, metrics: Metrics) -> None:
    take(bridge, *(event(f"worker-{number}") for number in range(SOURCES + 1)))
    assert len(page(bridge)) == SOURCES
    assert counted(metrics, "refused") == 1


def test_a_bridge_that_another_process_replaces_serves_nothing(bridge: Bridge) -> None:
    take(bridge, event())
    bridge.clear()
    assert page(bridge) == {}


def test_a_port_that_is_taken_says_what_to_set() -> None:
    bridge = Bridge(Instruments(Metrics("test")))
    with (
        closing(MetricsPage(bridge, "127.0.0.1", 0)) as page,
        pytest.raises(InvalidSetting, match=rf"127\.0\.0\.1:{page.port}: Address already in use.*METRICS_PORT"),
    ):
        MetricsPage(bridge, "127.0.0.1", page.port)
