"""Pools as metrics."""

from prometheus_client import CollectorRegistry

from runtime.pools import PoolCollector
from runtime.pools.stats import PoolStats, WaitStats


class Told:
    """A pool with these statistics."""

    def stats(self) -> PoolStats:
        """Always the same."""
        return PoolStats(
            name="database", limit=50, size=3, idle=2, in_use=1, waiting=4, borrowed=10, created=5,
            closed={"too old": 2}, timeouts=6, waits=WaitStats(waited=4, total_s=1.5),
        )  # fmt: skip


def test_a_pool_tells_what_it_has_and_what_became_of_those_who_asked() -> None:
    registry = CollectorRegistry()
    registry.register(PoolCollector(Told()))

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"headrace_pool_{name}", {"pool": "database", **labels})

    assert (value("connections", state="idle"), value("connections", state="in use")) == (2, 1)
    assert (value("limit"), value("waiting"), value("borrowed_total"), value("opened_total")) == (50, 4, 10, 5)
    assert value("closed_total", reason="too old") == 2
    assert value("failures_total", reason="timeout") == 6
    assert value("waited_seconds_total") == 1.5
