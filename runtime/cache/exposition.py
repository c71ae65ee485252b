"""Caches as Prometheus' metrics; ``Metrics.add`` puts them beside a process' own."""

from collections.abc import Iterator
from typing import Final

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from runtime.cache.cache import Cache

#: The counts of ``CacheStats`` that are troubles, by the names under which they are told.
TROUBLES: Final = {
    "damaged": "damaged",
    "outdated": "outdated",
    "redis_errors": "redis",
    "unstored": "not stored",
    "gaps": "gap",
    "stale": "stale",
}


class CacheCollector(Collector):
    """A process' cache, under a name."""

    def __init__(self, name: str, cache: Cache) -> None:
        self._name = name
        self._cache = cache

    def collect(self) -> Iterator[Metric]:
        """Read it now."""
        stats, name = self._cache.stats(), self._name
        hits = CounterMetricFamily("headrace_cache_hits", "Values that were there, by where.", labels=["cache", "tier"])
        hits.add_metric([name, "memory"], stats.memory_hits)
        hits.add_metric([name, "redis"], stats.redis_hits)
        loads = CounterMetricFamily(
            "headrace_cache_loads", "Loaders that ran, by how they ended.", labels=["cache", "end"]
        )
        loads.add_metric([name, "loaded"], stats.loads - stats.load_errors)
        loads.add_metric([name, "failed"], stats.load_errors)
        evictions = CounterMetricFamily("headrace_cache_evictions", "Entries that left for others.", labels=["cache"])
        evictions.add_metric([name], stats.evictions)
        troubles = CounterMetricFamily("headrace_cache_troubles", "What went otherwise.", labels=["cache", "what"])
        for field, what in TROUBLES.items():
            troubles.add_metric([name, what], getattr(stats, field))
        entries = GaugeMetricFamily("headrace_cache_entries", "Entries in memory.", labels=["cache"])
        entries.add_metric([name], stats.entries)
        size = GaugeMetricFamily("headrace_cache_size_bytes", "What they take, about.", labels=["cache"])
        size.add_metric([name], stats.size_bytes)
        yield from (hits, loads, evictions, troubles, entries, size)
