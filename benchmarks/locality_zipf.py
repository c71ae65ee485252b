"""``locality.zipf``: how often models are loaded, against round robin over the workers with a free slot."""

import random
from collections import deque
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import accumulate
from typing import Final

from benchmarks.cluster import Arrival, Cluster, Machine, Schedules
from benchmarks.figure import RUNS, Bar, Figure, compare
from runtime.database.jobs import QueuedJob
from schemas.events import Heartbeat
from schemas.topics import Kind
from streams.credits import Assignment, Worker
from streams.scheduler import Scheduler

NAME: Final = "locality.zipf"
MODELS: Final = 50
#: Popularity falls with the rank to this power: that of words in a text (Zipf, 1949).
EXPONENT: Final = 1.0
WORKERS: Final = 4
MACHINE: Final = Machine(slots=16, room=5, load_s=2.0)
JOBS: Final = 10_000
#: Jobs a second, Poisson, and seconds that one runs on average, exponential: three quarters of the slots.
RATE: Final = 48.0
RUN_S: Final = 1.0
START: Final = datetime(2026, 1, 1, tzinfo=UTC)


class RoundRobin:
    """The peer: first come, first served, by the next worker in turn that has a free slot."""

    def __init__(self) -> None:
        self._jobs: deque[QueuedJob] = deque()
        self._workers: dict[str, Worker] = {}

    def add(self, jobs: Iterable[QueuedJob], at_s: float) -> None:  # noqa: ARG002
        """Let jobs wait."""
        self._jobs.extend(jobs)

    def refill(self, kind: Kind, jobs: Iterable[QueuedJob], at_s: float, *, complete: bool) -> None:
        """It is told of each job."""

    def place(self, kind: Kind, jobs: Iterable[QueuedJob], at_s: float) -> list[Assignment]:  # noqa: ARG002
        """Nobody goes before others."""
        return []

    def heartbeat(self, beat: Heartbeat, at_s: float) -> bool:
        """Take a worker's free slots."""
        worker = self._workers.get(beat.worker_id)
        if worker is None:
            self._workers[beat.worker_id] = Worker(beat, at_s)
            return True
        return worker.update(beat, at_s) is not None

    def next_assignments(self, most: int, at_s: float) -> list[Assignment]:
        """Take out the next jobs."""
        given: list[Assignment] = []
        while self._jobs and len(given) < most:
            worker = next((each for each in self._workers.values() if each.free(Kind.GENERATE) > 0), None)
            if worker is None:
                break
            # It goes to the end of the line.
            self._workers[worker.id] = self._workers.pop(worker.id)
            given.append(worker.assign(self._jobs.popleft(), at_s, 0.0))
        return given

    def sent(self, assignment: Assignment, offset: int) -> None:
        """Note where the assignment's event lies."""
        self._workers[assignment.worker_id].sent(assignment, offset)


def trace(seed: int) -> Iterator[Arrival]:
    """Requests for models by Zipf's law."""
    rng = random.Random(seed)
    weights = list(accumulate(1 / rank**EXPONENT for rank in range(1, MODELS + 1)))
    at_s = 0.0
    for number in range(JOBS):
        at_s += rng.expovariate(RATE)
        model = rng.choices(range(MODELS), cum_weights=weights)[0]
        job = QueuedJob("tenant", str(number), Kind.GENERATE, 1, f"model-{model:02}", START, "", cost=256)
        yield Arrival(at_s, job, rng.expovariate(1 / RUN_S))


def loads(scheduler: Schedules, seed: int) -> float:
    """How often the workers load a model for the trace."""
    cluster = Cluster(scheduler, [MACHINE] * WORKERS, seed)
    cluster.run(trace(seed))
    return cluster.loads


def measure() -> Iterator[Figure]:
    """The figure, a seed a run."""
    ours = [loads(Scheduler(), seed) for seed in range(RUNS)]
    peer = [loads(RoundRobin(), seed) for seed in range(RUNS)]
    yield compare(NAME, "loads", Bar("at most", 0.15), ours, peer, "round robin, same credits")
