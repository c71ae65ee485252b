"""``python -m benchmarks [NAME …]``: measure figures on the servers of the environment, those of ``LONG`` if named.

Each figure is one line of JSON, on stdout and in ``benchmarks/results/``. ``make bench`` starts the servers.
"""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from benchmarks import (
    cache_contention,
    cache_hit,
    cache_hit_ratio,
    cache_redis,
    cache_stampede,
    database_batch,
    dispatch_admission,
    dispatch_bare,
    e2e_noop,
    fairness_tenant,
    latency_dispatch,
    locality_zipf,
    memory_dispatcher,
    memory_slope,
    monitoring_overhead,
    pools_checkout,
    slots_busy,
    slots_model,
    tasks_overhead,
)
from benchmarks.figure import Figure

RESULTS: Final = Path(__file__).parent / "results"
BENCHES: Final[dict[str, Callable[[], Iterator[Figure]]]] = {
    module.NAME: module.measure
    for module in (
        dispatch_bare,
        dispatch_admission,
        e2e_noop,
        latency_dispatch,
        slots_busy,
        slots_model,
        fairness_tenant,
        locality_zipf,
        memory_dispatcher,
        memory_slope,
        monitoring_overhead,
        pools_checkout,
        tasks_overhead,
        cache_hit,
        cache_contention,
        cache_redis,
        cache_hit_ratio,
        cache_stampede,
        database_batch,
    )
}
#: Measured only where it is named: it takes an hour.
LONG: Final = {memory_slope.NAME}


def main(names: list[str]) -> int:
    """Exit status 0 once everything was measured, whether the bars hold or not; 2 for a name that is none."""
    if unknown := [name for name in names if name not in BENCHES]:
        print(f"There is no benchmark {', '.join(unknown)}; there are {', '.join(BENCHES)}.", file=sys.stderr)
        return 2
    RESULTS.mkdir(exist_ok=True)
    for name in names or [name for name in BENCHES if name not in LONG]:
        figures = list(BENCHES[name]())
        (RESULTS / f"{name}.jsonl").write_text("".join(f"{figure.line()}\n" for figure in figures), encoding="utf-8")
        for figure in figures:
            print(figure.line(), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
