"""A cache as metrics."""

from contextlib import closing

import pytest
from prometheus_client import CollectorRegistry

from runtime.cache import Cache, Lifetime, Limits, MsgspecCodec
from runtime.cache.exposition import CacheCollector


def test_a_cache_tells_its_hits_loads_failures_and_evictions() -> None:
    with closing(Cache(limits=Limits(entries=1))) as cache:
        registry = CollectorRegistry()
        registry.register(CacheCollector("answers", cache))
        region = cache.region("answers", MsgspecCodec(int), Lifetime(ttl_s=60.0))
        for argument in (1, 1, 2):
            region.get_or_load(region.key(argument), lambda argument=argument: argument)  # type: ignore[misc]
        with pytest.raises(ZeroDivisionError):
            region.get_or_load(region.key(3), lambda: 1 // 0)

        def value(name: str, **labels: str) -> float | None:
            return registry.get_sample_value(f"headrace_cache_{name}", {"cache": "answers", **labels})

        assert value("hits_total", tier="memory") == 1
        assert (value("loads_total", end="loaded"), value("loads_total", end="failed")) == (2, 1)
        assert (value("entries"), value("evictions_total")) == (1, 1)
