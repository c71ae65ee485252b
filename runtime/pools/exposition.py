"""Pools as Prometheus' metrics; ``Metrics.add`` puts them beside a process' own."""

from collections.abc import Iterator
from typing import Protocol

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from runtime.pools.stats import PoolStats


class Told(Protocol):
    """Whatever has the statistics of a pool."""

    def stats(self) -> PoolStats:
        """Of this moment."""
        ...


class PoolCollector(Collector):
    """The pools of a process, by their names."""

    def __init__(self, *pools: Told) -> None:
        self._pools = pools

    def collect(self) -> Iterator[Metric]:
        """Read every pool now."""
        connections = GaugeMetricFamily(
            "headrace_pool_connections", "Connections that are open, lent or not.", labels=["pool", "state"]
        )
        limit = GaugeMetricFamily("headrace_pool_limit", "Connections that may be open.", labels=["pool"])
        waiting = GaugeMetricFamily("headrace_pool_waiting", "Borrowers that wait for their turn.", labels=["pool"])
        borrowed = CounterMetricFamily("headrace_pool_borrowed", "Connections lent.", labels=["pool"])
        opened = CounterMetricFamily("headrace_pool_opened", "Connections opened.", labels=["pool"])
        closed = CounterMetricFamily("headrace_pool_closed", "Connections closed, by why.", labels=["pool", "reason"])
        failed = CounterMetricFamily(
            "headrace_pool_failures", "Borrowers that went away without, by why.", labels=["pool", "reason"]
        )
        waited = CounterMetricFamily("headrace_pool_waited_seconds", "Time that borrowers waited.", labels=["pool"])
        for stats in (pool.stats() for pool in self._pools):
            name = stats.name
            connections.add_metric([name, "idle"], stats.idle)
            connections.add_metric([name, "in use"], stats.in_use)
            limit.add_metric([name], stats.limit)
            waiting.add_metric([name], stats.waiting)
            borrowed.add_metric([name], stats.borrowed)
            opened.add_metric([name], stats.created)
            for reason, count in stats.closed.items():
                closed.add_metric([name, reason], count)
            failed.add_metric([name, "timeout"], stats.timeouts)
            failed.add_metric([name, "refused"], stats.refused)
            failed.add_metric([name, "not opened"], stats.creations_failed)
            waited.add_metric([name], stats.waits.total_s)
        yield from (connections, limit, waiting, borrowed, opened, closed, failed, waited)
