"""Many simulations, spread over processes."""

import gc
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from multiprocessing import get_context
from typing import Final

from tests.simulation.processes import Parts
from tests.simulation.world import Report, simulate

#: What a process is given at once.
CHUNK_SEEDS: Final = 25


def run_all(seeds: range, processes: int) -> Iterator[Report]:
    """The report of each seed, in their order."""
    chunks = [seeds[first : first + CHUNK_SEEDS] for first in range(0, len(seeds), CHUNK_SEEDS)]
    if processes == 1:
        for chunk in chunks:
            yield from run_some(chunk)
        return
    with ProcessPoolExecutor(processes, get_context("spawn"), _quicken) as pool:
        for reports in pool.map(run_some, chunks):
            yield from reports


def run_some(seeds: Sequence[int], parts: Parts | None = None) -> list[Report]:
    """The reports of some seeds, in this process."""
    reports = [simulate(seed, parts) for seed in seeds]
    gc.collect()
    return reports


def caught(parts: Parts, seeds: range) -> tuple[int, Report | None]:
    """How many seeds it took to break a promise, and the report; None where none of the seeds did."""
    found = enumerate((simulate(seed, parts) for seed in seeds), 1)
    return next(((count, report) for count, report in found if report.violations), (len(seeds), None))


def first(reports: Iterator[Report], most: int) -> list[Report]:
    """The first reports that break a promise."""
    return list(islice((report for report in reports if report.violations), most))


def _quicken() -> None:
    # The collector would walk through everything that was imported, again and again.
    gc.collect()
    gc.freeze()
    gc.disable()
