"""What a process measures of itself: its Prometheus metrics, and the events that carry them."""

from runtime.monitoring.metrics import SECONDS, Metrics, MetricsReporter

__all__ = ["SECONDS", "Metrics", "MetricsReporter"]
