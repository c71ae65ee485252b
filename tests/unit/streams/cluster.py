"""Workers and what is between them and the scheduler, in any order: a state machine that checks its promises."""

from collections import Counter, deque

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from runtime.database.jobs import QueuedJob
from schemas.events import Heartbeat, Slots
from schemas.topics import Kind
from streams.placement import HOLD_S
from streams.scheduler import Assignment, Scheduler
from tests.unit.streams.records import job

SLOTS = Slots(generate=2, finetune=1)
KINDS = (Kind.GENERATE, Kind.FINETUNE)
#: Models that a worker has room for.
ROOM = 2
WORKERS = ("a", "b", "c")
workers = st.sampled_from(WORKERS)


class Worker:
    """What a real worker does: it takes records in their order, runs jobs, and tells of it sooner or later."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.produced: list[Assignment] = []
        self.reported = 0
        self.taken = 0
        self.running: list[QueuedJob] = []
        self.models: list[str] = []
        self.beats = deque([self.beat()])

    def beat(self) -> Heartbeat:
        busy = Counter(each.kind for each in self.running)
        return Heartbeat(
            worker_id=self.name,
            host="here",
            partition=WORKERS.index(self.name),
            position=self.taken,
            free=Slots(
                generate=SLOTS.generate - busy[Kind.GENERATE],
                finetune=SLOTS.finetune - busy[Kind.FINETUNE],
            ),
            models=tuple(self.models),
            slots=SLOTS,
        )

    def take(self) -> None:
        if self.taken < len(self.produced):
            taken = self.produced[self.taken].job
            self.taken += 1
            self.running.append(taken)
            self.models = [*(model for model in self.models if model != taken.model), taken.model][-ROOM:]

    @property
    def responsible_for(self) -> list[QueuedJob]:
        """What it runs and what is on its way to it."""
        return [*self.running, *(item.job for item in self.produced[self.taken :])]


class Cluster(RuleBasedStateMachine):
    """In any order of heartbeats, records and reports the scheduler keeps its promises.

    A job that was not removed is given once, to a worker with a free slot. A last attempt is alone. While a
    slot is free jobs wait for a bounded time only, and all of them end.
    """

    scheduler_type = Scheduler

    def __init__(self) -> None:
        super().__init__()
        self.scheduler = self.scheduler_type()
        self.now_s = 1_000.0
        self.workers = {name: Worker(name) for name in WORKERS}
        self.added: list[QueuedJob] = []
        self.removed = 0
        self.given: list[Assignment] = []
        for name in ("a", "b"):  # the third comes later
            self.receive_heartbeat(name)
        for kind in KINDS:
            self.scheduler.refill(kind, [], self.now_s, complete=True)

    @rule(
        kind=st.sampled_from(KINDS),
        priority=st.integers(0, 2),
        tenant=st.sampled_from("xy"),
        model=st.sampled_from("lmn"),
        lost=st.sampled_from([0, 0, 1, 2]),
        age_s=st.sampled_from([0.0, 400.0]),
    )
    def add(self, kind: Kind, priority: int, tenant: str, model: str, lost: int, age_s: float) -> None:
        name = str(len(self.added))
        self.added.append(
            job(name, tenant=tenant, kind=kind, priority=priority, model=model, age_s=age_s, lost_attempts=lost)
        )
        self.scheduler.add([self.added[-1]], self.now_s)
        # It is read again before it is leased.
        self.scheduler.add([self.added[-1]], self.now_s)

    @rule(
        kind=st.sampled_from(KINDS),
        models=st.lists(st.sampled_from("lmn"), min_size=1, max_size=3),
        new=st.sampled_from([True, True, True, False]),
    )
    def come(self, kind: Kind, models: list[str], new: bool) -> None:
        jobs = [job(str(len(self.added) + number), kind=kind, model=model) for number, model in enumerate(models)]
        given = self.scheduler.place(kind, jobs, self.now_s)
        if not new:
            for assignment in given:
                self.scheduler.release(assignment)
            return
        self.added.extend(jobs)
        self.given.extend(given)
        for assignment in given:
            self.workers[assignment.worker_id].produced.append(assignment)
        names = {assignment.job.id for assignment in given}
        self.scheduler.add([each for each in jobs if each.id not in names], self.now_s)

    @rule(index=st.integers(0, 30))
    def cancel(self, index: int) -> None:
        if index < len(self.added):
            wanted = self.added[index]
            self.removed += self.scheduler.remove(wanted.tenant, wanted.id)

    @rule(most=st.integers(1, 9), leased=st.sampled_from([True, True, True, False]))
    def assign(self, most: int, leased: bool) -> None:
        for assignment in self.scheduler.next_assignments(most, self.now_s):
            self.given.append(assignment)
            if leased:
                self.workers[assignment.worker_id].produced.append(assignment)
            else:
                self.scheduler.release(assignment)

    @rule(name=workers)
    def report(self, name: str) -> None:
        worker = self.workers[name]
        if worker.reported < len(worker.produced):
            self.scheduler.sent(worker.produced[worker.reported], worker.reported)
            worker.reported += 1

    @rule(name=workers)
    def take(self, name: str) -> None:
        self.workers[name].take()

    @rule(name=workers)
    def finish(self, name: str) -> None:
        if self.workers[name].running:
            self.workers[name].running.pop(0)

    @rule(name=workers)
    def send_heartbeat(self, name: str) -> None:
        self.workers[name].beats.append(self.workers[name].beat())

    @rule(name=workers)
    def receive_heartbeat(self, name: str) -> None:
        if self.workers[name].beats:
            self.scheduler.heartbeat(self.workers[name].beats.popleft(), self.now_s)

    @rule(seconds=st.sampled_from([0.1, 1.0, 5.0]))
    def wait(self, seconds: float) -> None:
        self.now_s += seconds

    @invariant()
    def no_worker_has_more_than_its_slots(self) -> None:
        for worker in self.workers.values():
            counts = Counter(each.kind for each in worker.responsible_for)
            assert all(counts[kind] <= SLOTS.free(kind) for kind in KINDS), f"{worker.name} has {counts}"

    @invariant()
    def a_last_attempt_is_alone(self) -> None:
        for worker in self.workers.values():
            jobs = worker.responsible_for
            assert len(jobs) <= 1 or all(each.lost_attempts < 2 for each in jobs)

    @invariant()
    def no_job_is_lost_or_given_twice(self) -> None:
        assert len({item.job.id for item in self.given}) == len(self.given)
        assert len(self.given) + self.removed + len(self.scheduler) == len(self.added)

    def teardown(self) -> None:
        self._a_slot_is_not_left_free_for_long()
        for _ in range(60 + 10 * len(self.added)):
            self._everything_arrives()
            self.now_s += 1.0
            self.assign(100, leased=True)
            self.no_worker_has_more_than_its_slots()
            self.a_last_attempt_is_alone()
        self.no_job_is_lost_or_given_twice()
        assert len(self.scheduler) == 0, "jobs wait for ever"
        self._everything_arrives()
        for kind in KINDS:
            assert self.scheduler.free(kind) == SLOTS.free(kind) * len(WORKERS), "slots were lost"

    def _a_slot_is_not_left_free_for_long(self) -> None:
        """Jobs may wait for a certain worker while another has a free slot: but not longer than the bounds."""
        for name in WORKERS:
            while self.workers[name].beats:
                self.receive_heartbeat(name)
        for _ in range(40):
            self.now_s += HOLD_S
            self.assign(100, leased=True)
        for kind in KINDS:
            kept = any(each.lost_attempts >= 2 and each.kind is kind for each in self._waiting())
            assert kept or not (self.scheduler.free(kind) and self.scheduler.waiting(kind)), "a slot is left free"

    def _everything_arrives(self) -> None:
        for worker in self.workers.values():
            while worker.reported < len(worker.produced):
                self.report(worker.name)
            while worker.taken < len(worker.produced):
                worker.take()
            worker.beats.clear()
            worker.running.clear()
            self.scheduler.heartbeat(worker.beat(), self.now_s)

    def _waiting(self) -> list[QueuedJob]:
        given = {item.job.id for item in self.given}
        return [each for each in self.added if each.id not in given]
