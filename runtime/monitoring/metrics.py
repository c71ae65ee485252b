"""Metrics of a process: recorded with prometheus_client, published as events, served by the streams' bridge."""

import itertools
import logging
import secrets
import threading
from datetime import UTC, datetime
from typing import Final, Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from runtime.kafka import Publisher
from runtime.monitoring.buckets import without_empty
from schemas import topics
from schemas.codec import new_traceparent
from schemas.errors import ServerUnreachable
from schemas.events import MetricFamily, MetricsEvent, Sample

log = logging.getLogger(__name__)

#: Bounds in seconds from a fast decode step to a long fine-tune.
SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)


class Metrics:
    """The metrics of one process; names are ``headrace_<area>_<what>_<unit>``.

    ``source`` names this life of the process, so that a restart is not mistaken for a counter that fell.
    """

    def __init__(self, service: str) -> None:
        self.service = service
        self.source = f"{service}-{secrets.token_hex(6)}"
        self._registry = CollectorRegistry()
        self._sequence = itertools.count()
        ProcessCollector(namespace="headrace", registry=self._registry)

    def counter(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Counter:
        """A count since the process started; ``name`` ends in ``_total``."""
        return Counter(name, text, labels, registry=self._registry)

    def gauge(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Gauge:
        """A value of this moment."""
        return Gauge(name, text, labels, registry=self._registry)

    def histogram(
        self, name: str, text: str, labels: tuple[str, ...] = (), bounds: tuple[float, ...] = SECONDS
    ) -> Histogram:
        """A distribution; ``bounds`` are the buckets' upper ends in the unit of the name."""
        return Histogram(name, text, labels, buckets=bounds, registry=self._registry)

    def add(self, collector: Collector) -> None:
        """Tell of what another part of the process collects, too."""
        self._registry.register(collector)

    def event(self) -> MetricsEvent:
        """Everything recorded so far."""
        families = (_family(metric) for metric in self._registry.collect())
        return MetricsEvent(
            source=self.source,
            service=self.service,
            sequence=next(self._sequence),
            at=datetime.now(UTC),
            families=tuple(family for family in families if family.samples),
        )


class MetricsReporter:
    """Publishes a process' metrics every ``interval_s``, and once more when it is closed."""

    def __init__(self, metrics: Metrics, publisher: Publisher, interval_s: float) -> None:
        self._metrics = metrics
        self._publisher = publisher
        self._interval_s = interval_s
        self._closed = threading.Event()
        self._failing = False
        self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Publish the last values and stop."""
        self._closed.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._closed.wait(self._interval_s):
            self._publish()
        self._publish()

    def _publish(self) -> None:
        try:
            event = self._metrics.event()
            self._publisher.publish(
                topics.METRICS,
                event,
                key=event.source,
                event_id=f"{event.source}/{event.sequence}",
                traceparent=new_traceparent(),
            )
        except ServerUnreachable:
            # The values are cumulative: the next event that gets through carries them.
            return
        # The edge of this thread: whatever a collector met with once must not end the metrics of the process.
        except Exception:
            if not self._failing:
                log.exception("The metrics of %s could not be published; it is tried again.", self._metrics.source)
            self._failing = True
            return
        self._failing = False


def _family(metric: Metric) -> MetricFamily:
    kind = _type(metric)
    bounds: tuple[str, ...] = ()
    samples = tuple(
        Sample(name=sample.name, value=sample.value, labels=dict(sample.labels))
        for sample in metric.samples
        if not sample.name.endswith("_created")
    )
    if kind == "histogram":
        bounds, samples = without_empty(samples)
    return MetricFamily(metric.name, kind, metric.documentation, samples, bounds)


def _type(metric: Metric) -> Literal["counter", "gauge", "histogram"]:
    match metric.type:
        case "counter" | "histogram":
            return metric.type
        case _:
            return "gauge"
