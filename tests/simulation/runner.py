"""Many simulations, spread over processes."""

import gc
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Final

from tests.simulation.bugs import BUGS
from tests.simulation.processes import Parts
from tests.simulation.world import Report, simulate

#: Within so many seeds every bug of the zoo has to be found. The rarest, that of a chunk tried again, is in one of 250.
HUNT_SEEDS: Final = 1_500
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


@dataclass(frozen=True)
class Hunt:
    """The search for one bug: after how many seeds it broke which promise; none where it was not found."""

    bug: str
    seeds: int
    invariant: str | None
    text: str


def hunt_all(processes: int) -> Iterator[Hunt]:
    """Hunt every bug of the zoo."""
    with ProcessPoolExecutor(processes, get_context("spawn"), _quicken) as pool:
        yield from pool.map(hunt, range(len(BUGS)))


def hunt(number: int) -> Hunt:
    """Run a bug of the zoo until it breaks a promise."""
    bug = BUGS[number]
    for seed in range(HUNT_SEEDS):
        report = simulate(seed, bug.parts)
        if report.violations:
            invariant, text = report.violations[0]
            return Hunt(bug.name, seed + 1, invariant, text)
    return Hunt(bug.name, HUNT_SEEDS, None, "")


def _quicken() -> None:
    # The collector would walk through everything that was imported, again and again.
    gc.collect()
    gc.freeze()
    gc.disable()
