"""``fairness.tenant`` and ``fairness.jain``: what one tenant's flood does to the others.

Twenty tenants send as they always do; then another sends nineteen times as much as they together, which is
more than the workers can do: how long do the others wait, against when they are alone? And where all of them
have more than enough waiting, one of them nineteen times as much: what does each get (Jain's index, 1984)?
"""

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import chain
from typing import Final

from benchmarks.cluster import Arrival, Cluster, Machine, Start
from benchmarks.figure import RUNS, Bar, Figure, compare
from runtime.database.jobs import QueuedJob
from schemas.topics import Kind
from streams.scheduler import Scheduler

NAME: Final = "fairness.tenant"
OTHERS: Final = 20
#: The flood's part of all requests.
FLOOD: Final = 0.95
MODELS: Final = 4
WORKERS: Final = 2
MACHINE: Final = Machine(slots=64, room=MODELS, load_s=1.0)
#: Seconds that a job runs on average, exponential; its cost is in proportion.
RUN_S: Final = 0.25
TOKENS_PER_S: Final = 1_000
#: Of what the workers can do, the others ask for this part; the flood for the rest, and more.
OTHERS_LOAD: Final = 0.10
SECONDS: Final = 30.0
#: Jobs of each of the others that wait at once, and for how long they all last.
BACKLOG: Final = 120
BACKLOG_S: Final = 4.0
#: The models are loaded by then.
WARM_S: Final = 10.0
START: Final = datetime(2026, 1, 1, tzinfo=UTC)


def measure() -> Iterator[Figure]:
    """Both figures, a seed a run."""
    alone, flooded = [], []
    for seed in range(RUNS):
        quiet = list(others(seed))
        alone.append(p99_s(work(quiet, seed)))
        flooded.append(p99_s(work([*quiet, *flood(seed)], seed)))
    yield compare(NAME, "s, p99 wait", Bar("at most", 1.5), flooded, alone, "the others alone")
    equal = [index(shares(seed)) for seed in range(RUNS)]
    yield compare("fairness.jain", "Jain's index", Bar("at least", 0.95), equal, [1.0] * RUNS, "equal shares")


def others(seed: int) -> Iterable[Arrival]:
    """Requests of twenty tenants, each at its own rate: Poisson."""
    rate = OTHERS_LOAD * WORKERS * MACHINE.slots / RUN_S / OTHERS
    return chain.from_iterable(_requests(f"tenant-{number:02}", rate, f"{seed}/{number}") for number in range(OTHERS))


def flood(seed: int) -> Iterable[Arrival]:
    """Nineteen times as many of one more tenant."""
    rate = OTHERS_LOAD * WORKERS * MACHINE.slots / RUN_S * FLOOD / (1 - FLOOD)
    return _requests("flood", rate, f"{seed}/flood")


def work(arrivals: Iterable[Arrival], seed: int) -> list[Start]:
    """The others' jobs that started within the time."""
    cluster = Cluster(Scheduler(), [MACHINE] * WORKERS, seed)
    cluster.run(arrivals, SECONDS)
    return [
        start
        for start in cluster.starts
        if start.arrival.at_s >= WARM_S and start.at_s < SECONDS and start.arrival.job.tenant != "flood"
    ]


def p99_s(starts: Sequence[Start]) -> float:
    """From the request to its start."""
    waits = sorted(start.at_s - start.arrival.at_s for start in starts)
    return waits[int(0.99 * len(waits))]


def shares(seed: int) -> list[int]:
    """Tokens that each tenant got while all of them had jobs waiting, whose lengths differ by tenant."""
    many = round(BACKLOG * OTHERS * FLOOD / (1 - FLOOD))
    waiting = [_backlog(f"tenant-{number:02}", BACKLOG, 1 + number % 4, seed) for number in range(OTHERS)]
    cluster = Cluster(Scheduler(), [MACHINE] * WORKERS, seed)
    cluster.run(chain(_backlog("flood", many, 1, seed), *waiting), BACKLOG_S)
    got: Counter[str] = Counter()
    for start in cluster.starts:
        got[start.arrival.job.tenant] += start.arrival.job.cost
    return list(got.values())


def index(values: Sequence[int]) -> float:
    """Jain's index: 1 where all are equal, 1/n where one has everything."""
    return sum(values) ** 2 / (len(values) * sum(value * value for value in values))


def _requests(name: str, rate: float, seed: str) -> Iterable[Arrival]:
    rng = random.Random(seed)
    at_s, number = rng.expovariate(rate), 0
    while at_s < SECONDS:
        yield _request(name, number, at_s, rng, RUN_S)
        at_s += rng.expovariate(rate)
        number += 1


def _backlog(name: str, many: int, length: int, seed: int) -> Iterable[Arrival]:
    rng = random.Random(f"{seed}/{name}")
    return [_request(name, number, 0.0, rng, RUN_S * length) for number in range(many)]


def _request(name: str, number: int, at_s: float, rng: random.Random, mean_s: float) -> Arrival:
    run_s = rng.expovariate(1 / mean_s)
    cost = max(1, round(run_s * TOKENS_PER_S))
    model = f"model-{rng.randrange(MODELS)}"
    return Arrival(at_s, QueuedJob(name, str(number), Kind.GENERATE, 1, model, START, "", cost=cost), run_s)
