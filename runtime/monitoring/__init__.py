"""What a process measures of itself.

``Metrics`` are a process' Prometheus metrics, and ``MetricsReporter`` publishes them as events.
``@monitor_performance`` measures the calls of a function; ``Metrics.add(OperationCollector(OPERATIONS))`` tells of
them, as does ``report`` in JSON. ``benchmark`` and ``compare`` measure a function on purpose.
"""

from runtime.monitoring.baseline import BaselineInvalid, compare_with_baseline, load_baseline, save_baseline
from runtime.monitoring.benchmark import Comparison, Measurement, benchmark, compare, compare_with
from runtime.monitoring.container import Limits, container_limits
from runtime.monitoring.exposition import BOUNDS_S, OperationCollector, SystemCollector
from runtime.monitoring.gpu import GpuReading, NvmlGpus
from runtime.monitoring.intervals import Interval
from runtime.monitoring.machine import machine
from runtime.monitoring.metrics import SECONDS, Metrics, MetricsReporter
from runtime.monitoring.monitored import OPERATIONS, Operations, monitor_performance
from runtime.monitoring.operation import Operation
from runtime.monitoring.report import Report, ReportInvalid, add_up, report, report_schema
from runtime.monitoring.sketch import Sketch, SketchInvalid
from runtime.monitoring.system import System, SystemReading
from runtime.monitoring.trends import ChangePoint, change_points, slope
from runtime.monitoring.windows import Recent, Window

__all__ = [
    "BOUNDS_S",
    "OPERATIONS",
    "SECONDS",
    "BaselineInvalid",
    "ChangePoint",
    "Comparison",
    "GpuReading",
    "Interval",
    "Limits",
    "Measurement",
    "Metrics",
    "MetricsReporter",
    "NvmlGpus",
    "Operation",
    "OperationCollector",
    "Operations",
    "Recent",
    "Report",
    "ReportInvalid",
    "Sketch",
    "SketchInvalid",
    "System",
    "SystemCollector",
    "SystemReading",
    "Window",
    "add_up",
    "benchmark",
    "change_points",
    "compare",
    "compare_with",
    "compare_with_baseline",
    "container_limits",
    "load_baseline",
    "machine",
    "monitor_performance",
    "report",
    "report_schema",
    "save_baseline",
    "slope",
]
