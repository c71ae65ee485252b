"""What goes wrong, and when: drawn by the seed, some sorts of it each time, often at one moment of a process' work."""

import random
from dataclasses import dataclass
from enum import Enum
from typing import Final, assert_never

#: Faults begin within this time; the last of them has ended by ``CALM_S``.
FAULTS_S: Final = 16.0
CALM_S: Final = 22.0
#: How many callbacks a process runs at most before it meets its fault: anywhere in what it does at that time.
FUSE_CALLBACKS: Final = 80


class Sort(Enum):
    """Sorts of faults."""

    KILL_WORKER = "kill worker"
    KILL_DISPATCHER = "kill dispatcher"
    FREEZE_WORKER = "freeze worker"
    FREEZE_DISPATCHER = "freeze dispatcher"
    STOP_WORKER = "stop worker"
    STOP_DISPATCHER = "stop dispatcher"
    SCALE_DISPATCHERS = "scale dispatchers"
    POSTGRES_AWAY = "postgres away"
    POSTGRES_FLAKY = "postgres flaky"
    POSTGRES_SLOW = "postgres slow"
    KAFKA_AWAY = "kafka away"
    KAFKA_FLAKY = "kafka flaky"
    KAFKA_SLOW = "kafka slow"


@dataclass(frozen=True)
class Fault:
    """One of them: when, for how long, and which of the processes."""

    at_s: float
    sort: Sort
    lasts_s: float
    victim: int
    fuse: int


@dataclass(frozen=True)
class Scenario:
    """All that is drawn before the beginning."""

    workers: int
    faults: tuple[Fault, ...]
    duplicates: float


def draw(rng: random.Random) -> Scenario:
    """None of them in one simulation of eight; in the others a few, of some sorts."""
    workers = rng.choice((1, 2, 2, 3))
    if rng.random() < 0.12:
        return Scenario(workers, (), 0.0)
    sorts = rng.sample(list(Sort), rng.randint(1, 5))
    faults = [_fault(rng, rng.choice(sorts)) for _ in range(rng.randint(1, 6))]
    duplicates = rng.choice((0.0, 0.0, 0.05))
    return Scenario(workers, tuple(sorted(faults, key=lambda fault: fault.at_s)), duplicates)


def _fault(rng: random.Random, sort: Sort) -> Fault:
    at_s = rng.uniform(0.2, FAULTS_S)
    # Shorter than a lease, or longer.
    lasts_s = min(rng.choice((0.5, 3.0, 7.0, 12.0)) * rng.uniform(0.7, 1.3), CALM_S - at_s)
    return Fault(at_s, sort, lasts_s, rng.randrange(6), rng.randrange(FUSE_CALLBACKS))


def touches(sort: Sort) -> str:
    """Who has it: ``worker``, ``dispatcher``, ``postgres`` or ``kafka``."""
    match sort:
        case Sort.KILL_WORKER | Sort.FREEZE_WORKER | Sort.STOP_WORKER:
            return "worker"
        case Sort.KILL_DISPATCHER | Sort.FREEZE_DISPATCHER | Sort.STOP_DISPATCHER | Sort.SCALE_DISPATCHERS:
            return "dispatcher"
        case Sort.POSTGRES_AWAY | Sort.POSTGRES_FLAKY | Sort.POSTGRES_SLOW:
            return "postgres"
        case Sort.KAFKA_AWAY | Sort.KAFKA_FLAKY | Sort.KAFKA_SLOW:
            return "kafka"
        case unknown:
            assert_never(unknown)
