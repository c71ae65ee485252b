"""``slots.busy`` on a virtual clock: 64 slots, jobs of 100 ms, 1,000 keys, and more of them than can be done."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from benchmarks.cluster import Arrival, Cluster, Machine
from benchmarks.figure import RUNS, Bar, Figure, compare
from runtime.database.jobs import QueuedJob
from schemas.topics import Kind
from streams.scheduler import Scheduler

NAME: Final = "slots.model"
#: A worker that takes no more than its slots, and one as ours: it has the next jobs at hand.
AHEAD: Final[dict[str, int | None]] = {"ideal; nothing at hand": 0, "ideal; as workers.ahead has it": None}
SLOTS: Final = 64
RUN_S: Final = 0.1
KEYS: Final = 1_000
SECONDS: Final = 20.0
START: Final = datetime(2026, 1, 1, tzinfo=UTC)


def measure() -> Iterator[Figure]:
    """Slot seconds that were used, of those that there were, a seed a run; without looking ahead, and with it."""
    for name, ahead in AHEAD.items():
        ours = [used_s(ahead, seed) for seed in range(RUNS)]
        ideal = [SLOTS * SECONDS] * RUNS
        yield compare(NAME, "slot seconds", Bar("at least", 0.95), ours, ideal, name)


def used_s(ahead: int | None, seed: int) -> float:
    """Slot seconds of one worker that is given all that it can do."""
    cluster = Cluster(Scheduler(), [Machine(SLOTS, room=1, load_s=0.0, ahead=ahead)], seed)
    cluster.run(jobs(), SECONDS)
    return sum(min(RUN_S, SECONDS - start.at_s) for start in cluster.starts)


def jobs() -> Iterator[Arrival]:
    """One tenth more than there are slot seconds, from the beginning on: a key is a tenant."""
    for number in range(round(1.1 * SLOTS * SECONDS / RUN_S)):
        job = QueuedJob(f"key-{number % KEYS}", str(number), Kind.GENERATE, 1, "model", START, "", cost=100)
        yield Arrival(0.0, job, RUN_S)
