"""No-op jobs from the client to the result that it reads, beside the task queues of Python.

Ours: the client, one dispatcher, one worker, Kafka, Postgres with fsync; a job counts when its result event was
read by a consumer of committed records. Theirs: see ``peers/``.
"""

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.figure import RUNS, Bar, Figure, compare
from benchmarks.headrace import platform
from benchmarks.load import load

NAME: Final = "e2e.noop"
PEERS: Final = Path(__file__).parent / "peers"
PYTHON: Final = Path(__file__).parents[1] / "var/peers/bin/python"
JOBS: Final = 8_000
WARM_UP: Final = 1_000
#: As many as the peers fetch ahead, about: a no-op job leaves its slot at once.
SLOTS: Final = "1000"


@dataclass(frozen=True)
class Peer:
    """A task queue. ``jobs`` so that a run takes some seconds."""

    name: str
    program: tuple[str, ...]
    jobs: int
    bar: Bar


PEERS_COMPARED: Final = (
    Peer("Celery, results in Redis", ("celery_noop.py", "redis"), 1_000, Bar("at least", 4.0)),
    Peer("Celery, results in Postgres", ("celery_noop.py", "postgres"), 200, Bar("at least", 25.0)),
    Peer("Dramatiq, results in Redis", ("dramatiq_noop.py", "redis"), 2_000, Bar("at least", 1.0)),
    Peer("Taskiq, results in Redis", ("taskiq_noop.py", "redis"), 1_500, Bar("at least", 1.0)),
)


def measure() -> Iterator[Figure]:
    """One figure a peer; in each round ours runs first, then all of them."""
    ours: list[float] = []
    theirs: dict[str, list[float]] = {peer.name: [] for peer in PEERS_COMPARED}
    for _ in range(RUNS):
        ours.append(headrace(JOBS))
        for peer in PEERS_COMPARED:
            theirs[peer.name].append(rate(peer))
    for peer in PEERS_COMPARED:
        yield compare(NAME, "jobs/s", peer.bar, ours, theirs[peer.name], peer.name)


def headrace(jobs: int) -> float:
    """Jobs a second of ours."""
    # The processes live between two runs of ours only: idle as they are, they would still take time from the peers.
    with platform(settings={"HEADRACE_GENERATE_SLOTS": SLOTS}), load() as jobs_sent:
        jobs_sent.rate(WARM_UP)
        return jobs_sent.rate(jobs)


def rate(peer: Peer) -> float:
    """Jobs a second of a peer, whose program prints the seconds that they took."""
    program, results = peer.program
    command = [str(PYTHON), str(PEERS / program), str(peer.jobs), results]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ)
    return peer.jobs / float(done.stdout.split()[-1])
