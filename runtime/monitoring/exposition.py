"""Operations and the machine as Prometheus' metrics; ``Metrics.add`` puts them beside a process' own.

A histogram can be summed over processes where percentiles can't, so its buckets are what a process tells. A duration
within 2 % below a bound may count in the next bucket: the sketch knows it no better.
"""

import logging
from collections.abc import Iterator
from typing import Final

import psutil
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from runtime.monitoring.gpu import GpuReading
from runtime.monitoring.monitored import Operations
from runtime.monitoring.system import System, SystemReading

log = logging.getLogger(__name__)

#: Upper ends of the buckets, from a read of memory to the load of a model. Few, for each is a sample of every operation
#: of every process.
BOUNDS_S: Final = (0.00001, 0.0001, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)


class OperationCollector(Collector):
    """What every monitored operation has done since the process started."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    def collect(self) -> Iterator[Metric]:
        """Fold what waits, and give it out."""
        seconds = HistogramMetricFamily(
            "headrace_operation_seconds", "Calls of an operation that returned.", labels=["operation"]
        )
        errors = CounterMetricFamily(
            "headrace_operation_errors", "Calls that raised an error, by its type.", labels=["operation", "error"]
        )
        failed = CounterMetricFamily(
            "headrace_operation_failed_seconds", "Time in calls that raised an error.", labels=["operation"]
        )
        cancelled = CounterMetricFamily(
            "headrace_operation_cancelled", "Calls that were told to stop.", labels=["operation"]
        )
        in_flight = GaugeMetricFamily("headrace_operation_in_flight", "Calls at this moment.", labels=["operation"])
        for reading in self._operations.readings():
            name, durations = reading.name, reading.durations
            counts = [*durations.at_most(BOUNDS_S), durations.count]
            bounds = [*map(floatToGoString, BOUNDS_S), "+Inf"]
            seconds.add_metric([name], list(zip(bounds, counts, strict=True)), durations.sum_s)
            for error, count in reading.errors.items():
                errors.add_metric([name, error], count)
            failed.add_metric([name], reading.failed.sum_s)
            cancelled.add_metric([name], reading.cancelled)
            in_flight.add_metric([name], reading.in_flight)
        yield from (seconds, errors, failed, cancelled, in_flight)


class SystemCollector(Collector):
    """The machine of this process: several processes of one machine tell the same."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._told = False

    def collect(self) -> Iterator[Metric]:
        """Read the machine now; nothing where the kernel shows none of it, for the process' own metrics matter more."""
        try:
            reading = self._system.read()
        except (OSError, psutil.Error) as error:
            if not self._told:
                self._told = True
                log.warning("There are no metrics of this machine: %s.", error)
            return
        for name, text, value in _gauges(reading):
            yield GaugeMetricFamily(f"headrace_system_{name}", text, value=value)
        for name, text, disks in (
            (
                "used",
                "Of the disks that this process writes to.",
                [(disk.path, disk.used_bytes) for disk in reading.disks],
            ),
            ("free", "What it may still write there.", [(disk.path, disk.free_bytes) for disk in reading.disks]),
        ):
            family = GaugeMetricFamily(f"headrace_system_disk_{name}_bytes", text, labels=["path"])
            for path, size_bytes in disks:
                family.add_metric([path], size_bytes)
            yield family
        yield from _gpus(reading.gpus)


def _gauges(reading: SystemReading) -> Iterator[tuple[str, str, float]]:
    yield "cpu_cores", "Cores that this process may use: of the container where that has fewer.", reading.cpu_cores
    if reading.cpu_used_ratio is not None:
        yield "cpu_used_ratio", "Of the machine's processor time, since the last reading.", reading.cpu_used_ratio
    yield "memory_limit_bytes", "Memory of the machine, or of the container.", reading.memory_total_bytes
    yield "memory_used_bytes", "What of it is used and can't be freed at once.", reading.memory_used_bytes


def _gpus(gpus: tuple[GpuReading, ...]) -> Iterator[Metric]:
    families = {
        name: GaugeMetricFamily(f"headrace_gpu_{name}", text, labels=["gpu", "uuid"])
        for name, text in (
            ("memory_limit_bytes", "Memory of a GPU."),
            ("memory_used_bytes", "What of it is used, by anybody."),
            ("used_ratio", "Share of time in which a kernel ran."),
            ("temperature_celsius", "Temperature of a GPU."),
            ("power_watts", "What a GPU draws."),
        )
    }
    for gpu in gpus:
        for name, value in (
            ("memory_limit_bytes", gpu.memory_total_bytes),
            ("memory_used_bytes", gpu.memory_used_bytes),
            ("used_ratio", gpu.used_ratio),
            ("temperature_celsius", gpu.temperature_celsius),
            ("power_watts", gpu.power_watts),
        ):
            if value is not None:
                families[name].add_metric([str(gpu.index), gpu.uuid], value)
    yield from families.values()
