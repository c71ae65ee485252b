"""Which worker a job goes to: one that holds its model, unless waiting for it costs more than loading it elsewhere.

The home of a model is the worker of the highest random weight (Thaler and Ravishankar, 1998): when a worker
leaves, only the models that it was home to move. A home that has more than its share of the load passes
jobs on to the next in the model's order (Mirrokni, Thorup and Zadimoghaddam, 2018).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

from schemas.topics import Kind
from streams.credits import Worker
from streams.estimates import LoadTimes, RunTimes

#: How far a home may be above the mean load before it passes jobs on: c of the paper, and one slot.
BOUND: Final = 1.25
#: No job is kept waiting for a certain worker longer than this while another has a free slot. It is what lets the
#: jobs of models that are seldom asked for gather, where the workers load one model after the other all the time.
HOLD_S: Final = 30.0
#: Models whose order of workers is kept.
MODELS: Final = 8_192


@dataclass(frozen=True)
class Hold:
    """Nobody is right at the moment: wait, but no longer than ``limit_s``; ``cold``: for whoever can load it."""

    limit_s: float
    cold: bool


@dataclass(frozen=True)
class Demand:
    """The jobs of a model that wait, and for how long none of them has been given away; how many other models
    wait for whoever can load them.
    """

    model: str
    waiting: int
    held_s: float
    cold: int


class Offers:
    """The workers with free slots of one kind, while jobs are given to them: to newcomers, or to those that wait."""

    def __init__(self, kind: Kind, workers: Iterable[Worker], *, newcomers: bool = False) -> None:
        self.kind = kind
        self._newcomers = newcomers
        having = [worker for worker in workers if worker.slots(kind)]
        self._count = len(having)
        self._load = sum(worker.load(kind) for worker in having)
        self.able = {worker.id: worker for worker in having if self._free(worker) > 0}

    @property
    def mean_load(self) -> float:
        """Of all workers that have slots, the full ones too."""
        return self._load / self._count

    def took(self, worker: Worker) -> None:
        """Note that a worker was given a job."""
        self._load += 1 / worker.slots(self.kind)
        if self._free(worker) <= 0:
            del self.able[worker.id]

    def _free(self, worker: Worker) -> int:
        return worker.free(self.kind) if self._newcomers else worker.free_to_waiting(self.kind)


class Placement:
    """Chooses among workers; a decision looks at each of them once, and there are 64 at most."""

    def __init__(self, workers: Mapping[str, Worker], runs: RunTimes, loads: LoadTimes) -> None:
        self._workers = workers
        self._runs = runs
        self._loads = loads
        self._homes: dict[str, tuple[str, ...]] = {}

    def workers_changed(self) -> None:
        """Forget the orders: a worker came or went."""
        self._homes.clear()

    def choose(self, offers: Offers, demand: Demand) -> Worker | Hold:
        """A worker with a free slot for a job of the model.

        A busy worker that holds the model is worth waiting for while the last of those jobs would start
        sooner there than after a load. It is no longer when they have waited for as long as a load takes:
        so at worst the wait doubles the cost of loading at once (ski rental: Karlin et al., 1988).
        """
        model, able = demand.model, offers.able.values()
        if holders := [worker for worker in able if worker.holds(model)]:
            return self._home(offers, model, holders)
        # Those that wait to be loaded would wait longer for one load more.
        load_s = min(HOLD_S, self._loads.load_s(model) * (1 + demand.cold / len(self._workers)))
        if demand.held_s < load_s and self._expected_s(offers.kind, demand) <= load_s:
            return Hold(load_s, cold=False)
        # A worker loads one model after the other: the second would only wait there, and in a slot.
        quiet = [worker for worker in able if not worker.is_loading]
        if not quiet and demand.held_s < HOLD_S:
            return Hold(HOLD_S, cold=True)
        return self._home(offers, model, quiet or list(able))

    def homes(self, model: str) -> Sequence[str]:
        """The workers' ids in the model's order: its home, then who stands in for it."""
        order = self._homes.get(model)
        if order is None:
            if len(self._homes) >= MODELS:
                self._homes.clear()
            by_weight = sorted(self._workers, key=lambda worker_id: _weight(model, worker_id), reverse=True)
            order = self._homes[model] = tuple(by_weight)
        return order

    def _expected_s(self, kind: Kind, demand: Demand) -> float:
        """When the last of the waiting jobs would start on the workers that hold the model."""
        holders = (worker for worker in self._workers.values() if worker.open and worker.holds(demand.model))
        slots = sum(worker.slots(kind) for worker in holders)
        return demand.waiting * self._runs.run_s(kind) / slots if slots else float("inf")

    def _home(self, offers: Offers, model: str, able: Sequence[Worker]) -> Worker:
        if len(able) == 1:
            return able[0]
        kind, most = offers.kind, BOUND * offers.mean_load
        by_id = {worker.id: worker for worker in able}
        for worker_id in self.homes(model):
            worker = by_id.get(worker_id)
            if worker and worker.load(kind) <= most + 1 / worker.slots(kind):
                return worker
        return min(able, key=lambda worker: worker.load(kind))


def _weight(model: str, worker_id: str) -> bytes:
    return blake2b(f"{model}\0{worker_id}".encode(), digest_size=8).digest()
