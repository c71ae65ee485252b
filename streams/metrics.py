"""Agent of the metrics events: the latest of each process, served at /metrics for Prometheus."""

import logging
import re
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import msgspec
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from runtime.monitoring.buckets import with_empty
from runtime.settings import InvalidSetting
from schemas.codec import decode
from schemas.errors import printable
from schemas.events import MetricFamily, MetricsEvent, Sample
from streams.chunks import Chunk, Record
from streams.instruments import Instruments
from streams.samples import History

log = logging.getLogger(__name__)

#: A process that has published nothing for so long is gone, and its metrics with it.
SILENT_S: Final = 300.0
#: Processes that are served at once; one more is refused, so that nobody can fill Prometheus' memory.
SOURCES: Final = 1_000
_METRIC: Final = re.compile(r"headrace_[a-z0-9_]+")
_LABEL: Final = re.compile(r"[a-z][a-z0-9_]*")
#: Which process a sample is of. A sample that brings such a label itself is refused.
SOURCE_LABEL: Final = "headrace_source"
SERVICE_LABEL: Final = "service"
#: What Prometheus' text format has for each type: the ends of its samples' names.
_SAMPLES: Final = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}


@dataclass(frozen=True)
class _Source:
    event: MetricsEvent
    stamp_ms: int
    seen_s: float


class Bridge(Collector):
    """The last metrics of every process; fed by the event loop, read by the page's thread."""

    def __init__(self, instruments: Instruments, history: History | None = None) -> None:
        self._instruments = instruments
        self._history = history
        self._sources: dict[str, _Source] = {}
        #: Kafka's time, as the last record says it. The clocks of processes may be wrong, that of this one too.
        self._kafka_ms = 0
        self._lock = threading.Lock()

    async def events(self, chunk: Chunk) -> None:
        """Take metrics events. All is cumulative: a repeat or a late one changes nothing."""
        for record in chunk.records:
            self._instruments.metrics_events.labels(self._take(record)).inc()
        self._instruments.sources.set(len(self._sources))

    def clear(self) -> None:
        """Forget everything: another process serves the metrics now, and none should be counted twice."""
        with self._lock:
            self._sources.clear()
        if self._history:
            self._history.clear()
        self._instruments.sources.set(0)

    def collect(self) -> Iterator[Metric]:
        """Every family once, with the samples of all processes."""
        with self._lock:
            self._forget_silent()
            events = [source.event for source in self._sources.values()]
        families: dict[str, Metric] = {}
        for event in events:
            for family in event.families:
                metric = families.setdefault(family.name, Metric(family.name, family.help, family.type))
                if metric.type == family.type:
                    _add(metric, family, event)
        return iter(families.values())

    def _take(self, record: Record) -> str:
        try:
            event: MetricsEvent = decode(MetricsEvent, record.value or b"")
        except msgspec.DecodeError as error:
            log.warning("A metrics event at offset %d is not readable: %s", record.offset, printable(str(error)))
            return "malformed"
        if wrong := next(_wrong(event.families), None):
            log.warning("Metrics of %s are refused: %s", printable(event.source), wrong)
            return "malformed"
        fate = self._keep(event, record.timestamp)
        if self._history and fate == "taken":
            self._history.take(event)
        return fate

    def _keep(self, event: MetricsEvent, stamp_ms: int) -> str:
        with self._lock:
            # Not the latest of all: the partition may have moved to a broker whose clock is behind.
            self._kafka_ms = stamp_ms
            known = self._sources.get(event.source)
            if known and known.event.sequence >= event.sequence:
                return "repeated"
            self._forget_silent()
            if known is None and len(self._sources) >= SOURCES:
                return "refused"
            self._sources[event.source] = _Source(event, stamp_ms, time.monotonic())
            return "taken"

    def _forget_silent(self) -> None:
        limit_s, limit_ms = time.monotonic() - SILENT_S, self._kafka_ms - SILENT_S * 1_000
        for name, known in list(self._sources.items()):
            if known.seen_s < limit_s or known.stamp_ms < limit_ms:
                del self._sources[name]


class MetricsPage:
    """Serves a bridge at ``http://host:port/metrics`` until it is closed; port 0 takes a free one.

    Raises:
        InvalidSetting: the port is taken, or the host is not this machine.
    """

    def __init__(self, bridge: Bridge, host: str, port: int) -> None:
        registry = CollectorRegistry()
        registry.register(bridge)
        try:
            self._server, self._thread = start_http_server(port, host, registry)
        except OSError as error:
            raise InvalidSetting(
                f"The metrics can't be served at {host}:{port}: {error.strerror}. Set HEADRACE_METRICS_PORT to a free "
                "port, or to 0 for any, and HEADRACE_METRICS_HOST to an address of this machine."
            ) from error
        self.port = int(self._server.server_port)

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _add(metric: Metric, family: MetricFamily, event: MetricsEvent) -> None:
    for sample in with_empty(family):
        labels = {**sample.labels, SERVICE_LABEL: event.service, SOURCE_LABEL: event.source}
        metric.add_sample(sample.name, labels, sample.value)


def _wrong(families: Iterable[MetricFamily]) -> Iterator[str]:
    """What would make the page unreadable for Prometheus, and so hide everybody's metrics."""
    seen: set[str] = set()
    for family in families:
        if not _METRIC.fullmatch(family.name) or family.name in seen:
            yield f"a metric is called {printable(family.name)!r}"
        seen.add(family.name)
        names = {family.name + end for end in _SAMPLES[family.type]}
        for sample in family.samples:
            if sample.name not in names:
                yield f"{printable(family.name)!r} has a sample {printable(sample.name)!r}"
            yield from _wrong_labels(sample)


def _wrong_labels(sample: Sample) -> Iterator[str]:
    for label in sample.labels:
        if not _LABEL.fullmatch(label) or label in (SOURCE_LABEL, SERVICE_LABEL):
            yield f"{printable(sample.name)!r} has a label {printable(label)!r}"
