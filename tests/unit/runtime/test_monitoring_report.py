"""Operations and the machine as JSON and as Prometheus' metrics."""

import json
import math
import shutil
import subprocess
from pathlib import Path

import jsonschema
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from runtime.monitoring import (
    BOUNDS_S,
    GpuReading,
    Limits,
    Metrics,
    OperationCollector,
    Operations,
    Report,
    ReportInvalid,
    System,
    SystemCollector,
    add_up,
    report,
    report_schema,
)
from runtime.monitoring.buckets import with_empty
from runtime.monitoring.operation import FULL
from runtime.monitoring.windows import WINDOW_S
from schemas.codec import encode
from schemas.events import MetricsEvent
from tests.unit.runtime.test_monitoring_operation import Clock, fail, take


class OneGpu:
    """A GPU that tells nearly everything."""

    def read(self) -> tuple[GpuReading, ...]:
        return (
            GpuReading(
                index=0,
                uuid="GPU-0",
                name="H100",
                memory_used_bytes=1,
                memory_total_bytes=2,
                used_ratio=0.5,
                temperature_celsius=None,
                power_watts=300.0,
            ),
        )


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def operations(clock: Clock) -> Operations:
    operations = Operations(clock)
    read = operations.of("store.read")
    take(read, clock, 0.0005, 0.003, 0.003, 0.2, 120.0)
    fail(read, ValueError())
    fail(read, KeyboardInterrupt())
    return operations


@pytest.fixture
def system(tmp_path: Path) -> System:
    return System([tmp_path], OneGpu(), lambda: Limits(0.5, 1_000, 10))


def event_of(operations: Operations, system: System | None = None) -> MetricsEvent:
    metrics = Metrics("test")
    metrics.add(OperationCollector(operations))
    if system:
        metrics.add(SystemCollector(system))
    return metrics.event()


def samples(event: MetricsEvent) -> dict[tuple[str, str], float]:
    return {
        (
            sample.name,
            ",".join(f"{name}={value}" for name, value in sample.labels.items() if name != "operation"),
        ): sample.value
        for family in event.families
        for sample in with_empty(family)
        if family.name.startswith("headrace_operation")
    }


def test_an_operation_is_a_histogram_in_the_process_events(operations: Operations) -> None:
    found = samples(event_of(operations))
    assert found["headrace_operation_seconds_bucket", "le=0.0001"] == 0
    assert found["headrace_operation_seconds_bucket", "le=0.001"] == 1
    assert found["headrace_operation_seconds_bucket", "le=0.005"] == 3
    assert found["headrace_operation_seconds_bucket", "le=60.0"] == 4
    assert found["headrace_operation_seconds_bucket", "le=+Inf"] == 5
    assert found["headrace_operation_seconds_count", ""] == 5
    assert found["headrace_operation_seconds_sum", ""] == pytest.approx(120.2065)
    assert found["headrace_operation_errors_total", "error=ValueError"] == 1
    assert found["headrace_operation_cancelled_total", ""] == 1
    assert found["headrace_operation_in_flight", ""] == 0
    assert sum(name == "headrace_operation_seconds_bucket" for name, _ in found) == len(BOUNDS_S) + 1


def test_an_event_of_many_operations_is_small(clock: Clock) -> None:
    operations = Operations(clock)
    for number in range(25):
        take(operations.of(f"database.jobs.operation_{number}"), clock, *[0.0008 * 1.2**step for step in range(10)])
    # Sixteen buckets each would be 60 KB, every five seconds, of every process.
    assert len(encode(event_of(operations))) < 35_000


def test_what_waits_is_in_the_event(operations: Operations, clock: Clock) -> None:
    take(operations.of("store.write"), clock, *[0.01] * (FULL // 4))
    (count,) = [
        sample.value
        for family in event_of(operations).families
        for sample in family.samples
        if sample.name == "headrace_operation_seconds_count" and sample.labels == {"operation": "store.write"}
    ]
    assert count == FULL // 4


def test_counters_never_fall(operations: Operations, clock: Clock) -> None:
    before = samples(event_of(operations))
    clock.now_s += 100 * WINDOW_S
    take(operations.of("store.read"), clock, 0.003)
    after = samples(event_of(operations))
    assert all(after[key] >= value for key, value in before.items())


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not on PATH")
def test_prometheus_finds_nothing_to_object_to(operations: Operations, system: System) -> None:
    registry = CollectorRegistry()
    registry.register(OperationCollector(operations))
    registry.register(SystemCollector(system))
    system.read()
    page = generate_latest(registry)
    assert b"headrace_gpu_power_watts" in page
    # prometheus_client's own series of when a counter began is not among what events carry.
    lines = [line for line in page.splitlines(keepends=True) if b"_created" not in line]
    checked = subprocess.run(["promtool", "check", "metrics"], input=b"".join(lines), capture_output=True, check=False)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


def test_the_machine_is_in_the_process_events(operations: Operations, system: System, tmp_path: Path) -> None:
    families = {family.name: family for family in event_of(operations, system).families}
    assert families["headrace_system_cpu_cores"].samples[0].value == 0.5
    assert families["headrace_system_memory_limit_bytes"].samples[0].value == 1_000
    assert families["headrace_system_disk_free_bytes"].samples[0].labels == {"path": str(tmp_path)}
    assert families["headrace_gpu_used_ratio"].samples[0].labels == {"gpu": "0", "uuid": "GPU-0"}
    assert "headrace_gpu_temperature_celsius" not in families


def test_a_machine_that_shows_nothing_costs_no_other_metric(
    operations: Operations, caplog: pytest.LogCaptureFixture
) -> None:
    def hidden() -> Limits:
        raise PermissionError("/proc is hidden")

    metrics = Metrics("test")
    metrics.add(SystemCollector(System(limits=hidden)))
    metrics.add(OperationCollector(operations))
    names = [family.name for _ in range(2) for family in metrics.event().families]
    assert "headrace_operation_seconds" in names
    assert "headrace_system_cpu_cores" not in names
    assert caplog.text.count("no metrics of this machine: /proc is hidden") == 1


def test_a_report_survives_json_and_is_as_its_schema_says(operations: Operations, system: System) -> None:
    made = report(operations, "worker-1", system.read())
    jsonschema.validate(json.loads(made.encode()), report_schema())
    assert Report.decode(made.encode()) == made
    (read,) = made.operations
    assert read.durations is not None
    assert (read.name, read.durations.count) == ("store.read", 5)
    assert read.durations.max_s == pytest.approx(120.0)
    assert read.durations.p50_s == pytest.approx(0.003, rel=0.01)
    assert read.recent is not None
    assert read.recent.error_ratio.value == pytest.approx(1 / 6)


@pytest.mark.parametrize("data", [b"", b"{}", b"[1]", b'{"version": "x"}'])
def test_what_is_no_report_is_refused(data: bytes) -> None:
    with pytest.raises(ReportInvalid, match="no report"):
        Report.decode(data)


def test_a_later_versions_report_is_refused_with_what_to_do(operations: Operations) -> None:
    data = report(operations, "worker-1").encode().replace(b'"version":1', b'"version":2')
    with pytest.raises(ReportInvalid, match=r"version 2.*reads 1"):
        Report.decode(data)


def test_the_reports_of_many_processes_add_up_to_that_of_one_that_did_it_all(clock: Clock) -> None:
    whole, parts = Operations(clock), [Operations(clock) for _ in range(3)]
    for number in range(300):
        for operations in (whole, parts[number % 3]):
            take(operations.of("read"), clock, math.exp(number / 40) / 1_000)
            if number % 50 == 0:
                fail(operations.of("read"), KeyError())
    many = add_up([Report.decode(report(one, f"worker-{number}").encode()) for number, one in enumerate(parts)])
    (one,) = add_up([report(whole, "all")]).operations
    (total,) = many.operations
    assert many.sources == ("worker-0", "worker-1", "worker-2")
    assert total.errors == {"KeyError": 6}
    assert total.durations is not None
    assert one.durations is not None
    assert (total.durations.p50_s, total.durations.p99_s) == (one.durations.p50_s, one.durations.p99_s)
    assert total.durations.count == 300


def test_an_operation_that_became_slower_is_said_to_have_jumped(clock: Clock) -> None:
    operations = Operations(clock)
    for number in range(60):
        window_s = clock.now_s
        take(operations.of("read"), clock, *[0.010 * (1 + number % 7 / 50) * (1 if number < 40 else 2)] * 3)
        clock.now_s = window_s + WINDOW_S
    (read,) = report(operations, "worker-1").operations
    (jump,) = read.jumps
    assert jump.ago_s == pytest.approx(20 * WINDOW_S, abs=2 * WINDOW_S)
    assert jump.p50_after_s / jump.p50_before_s == pytest.approx(2, rel=0.1)
    assert read.p50_slope_s_per_h is not None
    assert read.p50_slope_s_per_h.low > 0
