"""Workers and what lies between them and a scheduler, as events on a virtual clock: the same seed, the same run.

The scheduler is the real one. A job's way to it, its lease, the topics and the heartbeats are waits of the
lengths below; workers load models one after the other, keep as many as they have room for, and drop the one
that was used the longest ago.
"""

import heapq
import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Final, Protocol

from runtime.database.jobs import QueuedJob
from schemas.events import Heartbeat, Slots
from schemas.topics import Kind
from streams.credits import Assignment
from workers.ahead import Ahead

#: From a request's record to its row in Postgres, which is when the scheduler hears of those that have to wait.
ADMISSION_S: Final = 0.010
#: The transaction that leases a batch, and the way of a record through Kafka.
LEASE_S: Final = 0.005
HOP_S: Final = 0.005
#: What a worker's heartbeat gathers, as ``workers.heartbeats`` does, and how often it comes anyway.
GATHER_S: Final = 0.010
HEARTBEAT_S: Final = 1.0
BATCH_JOBS: Final = 500


class Schedules(Protocol):
    """What a cluster asks of a scheduler: that of ``streams``, or a simpler one beside it."""

    def refill(self, kind: Kind, jobs: Iterable[QueuedJob], at_s: float, *, complete: bool) -> None:
        """Hear that the database has no more jobs than these."""

    def place(self, kind: Kind, jobs: Iterable[QueuedJob], at_s: float) -> list[Assignment]:
        """Give workers to jobs that come and need not wait."""

    def add(self, jobs: Iterable[QueuedJob], at_s: float) -> None:
        """Let jobs wait."""

    def heartbeat(self, beat: Heartbeat, at_s: float) -> bool:
        """Take a worker's free slots."""

    def next_assignments(self, most: int, at_s: float) -> list[Assignment]:
        """Take out the next jobs."""

    def sent(self, assignment: Assignment, offset: int) -> None:
        """Note where the assignment's event lies."""


@dataclass(frozen=True)
class Arrival:
    """A job with the time at which it is sent, and the time that it runs."""

    at_s: float
    job: QueuedJob
    run_s: float


@dataclass(frozen=True)
class Machine:
    """What each worker has: slots, room for so many models, and how long it takes to load one.

    How far it looks ahead follows from the jobs, as in ``workers.ahead``, unless ``ahead`` says it.
    """

    slots: int
    room: int
    load_s: float
    ahead: int | None = None


@dataclass(frozen=True)
class Start:
    """When a job began to run (its model was there by then), and where."""

    arrival: Arrival
    at_s: float
    worker: int


@dataclass
class _Model:
    ready_s: float
    users: int = 0


@dataclass
class _Worker:
    number: int
    machine: Machine
    position: int = 0
    taken: int = 0
    running: int = 0
    waiting: list[Arrival] = field(default_factory=list)
    # The one that was used the longest ago is first.
    models: dict[str, _Model] = field(default_factory=dict)
    loader_free_s: float = 0.0
    tells: bool = False
    by_tenant: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.looks = Ahead(Slots(generate=self.machine.slots))

    def next_waiting(self) -> Arrival:
        """As ``workers.turns`` has it: of the tenant that has the fewest slots."""
        arrival = min(self.waiting, key=lambda each: self.by_tenant[each.job.tenant])
        self.waiting.remove(arrival)
        return arrival

    def beat(self, now_s: float) -> Heartbeat:
        machine = self.machine
        ahead = self.looks.of(Kind.GENERATE) if machine.ahead is None else machine.ahead
        total = machine.slots + ahead
        return Heartbeat(
            worker_id=f"worker-{self.number}",
            host="simulated",
            partition=self.number,
            position=self.position,
            free=Slots(generate=max(0, total - self.taken)),
            models=tuple(name for name, model in self.models.items() if model.ready_s <= now_s),
            slots=Slots(generate=total),
            ahead=Slots(generate=ahead),
        )


class Cluster:
    """A scheduler and its workers; ``run`` drives them until nothing is left to do, or until a time."""

    def __init__(self, scheduler: Schedules, machines: Sequence[Machine], seed: int = 0) -> None:
        self.starts: list[Start] = []
        self.loads = 0
        self.busy_s = 0.0
        self._scheduler = scheduler
        self._workers = [_Worker(number, machine) for number, machine in enumerate(machines)]
        self._random = random.Random(seed)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._now_s = 0.0
        self._arrivals: dict[tuple[str, str], Arrival] = {}
        self._offsets: Counter[int] = Counter()
        self._left = 0
        self._leasing = False

    def run(self, arrivals: Iterable[Arrival], until_s: float = float("inf")) -> None:
        """Send the jobs at their times, and work."""
        for arrival in arrivals:
            self._left += 1
            self._arrivals[arrival.job.tenant, arrival.job.id] = arrival
            self._at(arrival.at_s, partial(self._come, arrival.job))
        self._scheduler.refill(Kind.GENERATE, (), 0.0, complete=True)
        for worker in self._workers:
            self._beat(worker)
        while self._events and self._left:
            at_s, _, happens = heapq.heappop(self._events)
            if at_s > until_s:
                return
            self._now_s = at_s
            happens()

    def _come(self, job: QueuedJob) -> None:
        given = self._scheduler.place(Kind.GENERATE, [job], self._now_s)
        admitted = partial(self._hand_out, given) if given else partial(self._admit, job)
        self._at(self._now_s + self._about(ADMISSION_S), admitted)

    def _admit(self, job: QueuedJob) -> None:
        self._scheduler.add([job], self._now_s)
        self._dispatch()

    def _dispatch(self) -> None:
        """One batch is leased at a time, as in ``streams.dispatch``."""
        if self._leasing:
            return
        given = self._scheduler.next_assignments(BATCH_JOBS, self._now_s)
        if given:
            self._leasing = True
            self._at(self._now_s + self._about(LEASE_S), partial(self._leased, given))

    def _leased(self, given: Sequence[Assignment]) -> None:
        self._leasing = False
        self._hand_out(given)
        self._dispatch()

    def _hand_out(self, given: Sequence[Assignment]) -> None:
        for assignment in given:
            worker = self._workers[assignment.partition]
            offset = self._offsets[worker.number]
            self._offsets[worker.number] += 1
            self._scheduler.sent(assignment, offset)
            arrival = self._arrivals.pop((assignment.job.tenant, assignment.job.id))
            self._at(self._now_s + HOP_S, partial(self._take, worker, arrival))

    def _take(self, worker: _Worker, arrival: Arrival) -> None:
        worker.position += 1
        worker.taken += 1
        worker.waiting.append(arrival)
        self._start(worker)

    def _start(self, worker: _Worker) -> None:
        while worker.waiting and worker.running < worker.machine.slots:
            arrival = worker.next_waiting()
            worker.running += 1
            worker.by_tenant[arrival.job.tenant] += 1
            ready_s = self._load(worker, arrival.job.model)
            self.starts.append(Start(arrival, ready_s, worker.number))
            self.busy_s += arrival.run_s
            self._at(ready_s + arrival.run_s, partial(self._end, worker, arrival))

    def _load(self, worker: _Worker, model: str) -> float:
        """When the model is there; it is in use from now on."""
        held = worker.models.pop(model, None)
        if held is None:
            self.loads += 1
            worker.loader_free_s = max(self._now_s, worker.loader_free_s) + worker.machine.load_s
            held = _Model(worker.loader_free_s)
        held.users += 1
        worker.models[model] = held
        unused = [name for name, each in worker.models.items() if not each.users]
        for name in unused[: max(0, len(worker.models) - worker.machine.room)]:
            del worker.models[name]
        return max(self._now_s, held.ready_s)

    def _end(self, worker: _Worker, arrival: Arrival) -> None:
        worker.running -= 1
        worker.taken -= 1
        worker.by_tenant[arrival.job.tenant] -= 1
        worker.looks.ended(Kind.GENERATE, arrival.run_s)
        worker.models[arrival.job.model].users -= 1
        self._left -= 1
        self._start(worker)
        if not worker.tells:
            worker.tells = True
            self._at(self._now_s + GATHER_S, partial(self._tell, worker))

    def _tell(self, worker: _Worker) -> None:
        worker.tells = False
        beat = worker.beat(self._now_s)
        self._at(self._now_s + HOP_S, partial(self._heard, beat))

    def _beat(self, worker: _Worker) -> None:
        self._tell(worker)
        self._at(self._now_s + HEARTBEAT_S, partial(self._beat, worker))

    def _heard(self, beat: Heartbeat) -> None:
        self._scheduler.heartbeat(beat, self._now_s)
        self._dispatch()

    def _about(self, mean_s: float) -> float:
        """Half of it for certain, the other half as it comes."""
        return mean_s / 2 + self._random.expovariate(2 / mean_s)

    def _at(self, at_s: float, happens: Callable[[], None]) -> None:
        heapq.heappush(self._events, (at_s, next(self._order), happens))
