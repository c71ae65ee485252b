"""The scheduler: who gets which job, and that no slot is given twice or lost."""

from collections import Counter, deque

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from msgspec.structs import replace

from schemas.events import Heartbeat
from schemas.topics import Kind
from streams.scheduler import Assignment, Scheduler
from tests.unit.streams.records import beat, job


def names(assignments: list[Assignment]) -> list[str]:
    return [assignment.job.id for assignment in assignments]


def scheduler(*beats: Heartbeat, lane_jobs: int = 100) -> Scheduler:
    made = Scheduler(lane_jobs)
    for each in beats:
        made.heartbeat(each, 0.0)
    return made


def test_jobs_go_by_priority_then_by_age() -> None:
    made = scheduler(beat("a", slots=9))
    made.add([job("new"), job("old", age_s=9), job("batch", priority=2, age_s=99), job("high", priority=0)])
    assert names(made.next_assignments(9, 0.0)) == ["high", "old", "new", "batch"]


def test_jobs_of_the_same_age_go_in_the_order_of_their_coming() -> None:
    made = scheduler(beat("a", slots=9))
    made.add([job("first"), job("second"), job("third")])
    assert names(made.next_assignments(9, 0.0)) == ["first", "second", "third"]


def test_no_worker_gets_more_than_its_slots() -> None:
    made = scheduler(beat("a", slots=2), beat("b", slots=1))
    made.add(job(str(number)) for number in range(9))
    assert Counter(item.worker_id for item in made.next_assignments(9, 0.0)) == {"a": 2, "b": 1}
    assert made.next_assignments(9, 0.0) == []
    assert made.waiting(Kind.GENERATE) == 6


def test_a_worker_that_holds_the_model_is_preferred_to_one_that_is_idle() -> None:
    made = scheduler(beat("idle", slots=9), beat("warm", slots=1, models=("m",)))
    made.add([job("first"), job("second")])
    assert [item.worker_id for item in made.next_assignments(9, 0.0)] == ["warm", "idle"]


def test_a_kind_whose_workers_are_full_holds_up_no_other() -> None:
    made = scheduler(beat("a", slots=1))
    made.add([job("f1", kind=Kind.FINETUNE, priority=0), job("f2", kind=Kind.FINETUNE, priority=0), job("g")])
    assert names(made.next_assignments(9, 0.0)) == ["f1", "g"]


def test_a_lane_that_is_full_keeps_its_first_jobs_and_takes_no_room_from_others() -> None:
    made = scheduler(beat("a", slots=9), lane_jobs=2)
    made.add([job("new"), job("old", age_s=9), job("oldest", age_s=99), job("tune", kind=Kind.FINETUNE)])
    assert made.waiting(Kind.GENERATE) == 2
    assert names(made.next_assignments(9, 0.0)) == ["oldest", "old", "tune"]
    assert made.wants_more(Kind.GENERATE)


def test_a_job_that_waits_is_not_added_again() -> None:
    made = scheduler(beat("a", slots=9))
    made.add([job("a"), job("a")])
    made.refill(Kind.GENERATE, [job("a")], complete=True)
    assert names(made.next_assignments(9, 0.0)) == ["a"]


def test_a_lane_asks_for_more_only_where_the_database_has_more() -> None:
    made = scheduler(lane_jobs=4)
    assert made.wants_more(Kind.GENERATE)
    made.refill(Kind.GENERATE, [job("a")], complete=True)
    assert not made.wants_more(Kind.GENERATE)
    made.refill(Kind.GENERATE, [job("b")], complete=False)
    assert made.wants_more(Kind.GENERATE)
    made.refill(Kind.GENERATE, [job("c")], complete=False)
    assert not made.wants_more(Kind.GENERATE)


def test_a_slot_counts_as_taken_until_a_heartbeat_from_after_the_record() -> None:
    made = scheduler(beat("a", slots=1, position=5))
    made.add([job("first"), job("second"), job("third")])
    (first,) = made.next_assignments(9, 0.0)
    made.heartbeat(beat("a", slots=1, position=5), 1.0)
    assert made.next_assignments(9, 0.0) == []
    made.sent(first, 5)
    made.heartbeat(beat("a", slots=1, position=5), 2.0)
    assert made.next_assignments(9, 0.0) == []
    made.heartbeat(beat("a", slots=1, position=6), 3.0)
    assert names(made.next_assignments(9, 0.0)) == ["second"]


def test_a_heartbeat_may_be_faster_than_the_delivery_report() -> None:
    made = scheduler(beat("a", slots=1))
    made.add([job("first"), job("second")])
    (first,) = made.next_assignments(9, 0.0)
    made.heartbeat(beat("a", slots=1, position=1), 1.0)
    assert made.free(Kind.GENERATE) == 0
    made.sent(first, 0)
    assert names(made.next_assignments(9, 0.0)) == ["second"]


def test_a_heartbeat_that_is_older_than_another_changes_nothing() -> None:
    made = scheduler(beat("a", slots=0, position=9))
    assert not made.heartbeat(beat("a", slots=5, position=8), 1.0)
    assert made.free(Kind.GENERATE) == 0


def test_a_slot_whose_job_was_not_leased_is_free_again() -> None:
    made = scheduler(beat("a", slots=1))
    made.add([job("gone"), job("next")])
    (gone,) = made.next_assignments(9, 0.0)
    made.release(gone)
    made.release(gone)
    assert made.free(Kind.GENERATE) == 1


def test_a_slot_whose_job_was_never_taken_is_free_once_the_lease_is_over() -> None:
    made = scheduler(beat("a", slots=1))
    made.add([job("lost")])
    made.sent(made.next_assignments(9, 10.0)[0], 0)
    made.release_lost(10.0)
    assert made.free(Kind.GENERATE) == 0
    made.release_lost(10.1)
    assert made.free(Kind.GENERATE) == 1


def test_workers_that_leave_drain_or_fall_silent_get_nothing() -> None:
    made = scheduler(beat("leaving"), beat("draining"), beat("silent"))
    made.heartbeat(replace(beat("leaving"), leaving=True), 5.0)
    made.heartbeat(replace(beat("draining"), draining=True), 5.0)
    made.add([job("a")])
    assert made.remove_silent(1.0) == ["silent"]
    assert made.workers == 1
    assert made.next_assignments(9, 0.0) == []


def test_a_worker_that_takes_over_a_partition_replaces_the_one_before() -> None:
    made = scheduler(beat("before", partition=3), beat("after", partition=3))
    made.add([job("a")])
    assert made.workers == 1
    assert [item.worker_id for item in made.next_assignments(9, 0.0)] == ["after"]


class Worker:
    """What a real worker does, with Kafka between it and the scheduler."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.produced: list[Assignment] = []
        self.reported = 0
        self.taken = 0
        self.running = 0
        self.beats = deque([self.beat()])

    def beat(self) -> Heartbeat:
        return beat(self.name, slots=SLOTS - self.running, position=self.taken)


SLOTS = 3
workers = st.sampled_from(["a", "b"])


class Slots(RuleBasedStateMachine):
    """In any order of heartbeats, records and reports, no worker has more than its slots, and no slot is lost."""

    def __init__(self) -> None:
        super().__init__()
        self.scheduler = Scheduler(20)
        self.workers = {name: Worker(name) for name in ("a", "b")}
        self.jobs = 0
        self.assigned: list[Assignment] = []

    @rule(priority=st.integers(0, 2))
    def add(self, priority: int) -> None:
        self.jobs += 1
        self.scheduler.add([job(str(self.jobs), priority=priority)])

    @rule(most=st.integers(1, 4), leased=st.booleans())
    def assign(self, most: int, leased: bool) -> None:
        for assignment in self.scheduler.next_assignments(most, 0.0):
            self.assigned.append(assignment)
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
        worker = self.workers[name]
        if worker.taken < len(worker.produced):
            worker.taken += 1
            worker.running += 1

    @rule(name=workers)
    def finish(self, name: str) -> None:
        self.workers[name].running = max(self.workers[name].running - 1, 0)

    @rule(name=workers)
    def send_heartbeat(self, name: str) -> None:
        self.workers[name].beats.append(self.workers[name].beat())

    @rule(name=workers)
    def receive_heartbeat(self, name: str) -> None:
        if self.workers[name].beats:
            self.scheduler.heartbeat(self.workers[name].beats.popleft(), 0.0)

    @invariant()
    def no_worker_has_more_than_its_slots(self) -> None:
        for worker in self.workers.values():
            assert worker.running + len(worker.produced) - worker.taken <= SLOTS

    @invariant()
    def no_job_is_given_twice(self) -> None:
        assert len({item.job.id for item in self.assigned}) == len(self.assigned)

    def teardown(self) -> None:
        for worker in self.workers.values():
            while worker.reported < len(worker.produced):
                self.report(worker.name)
            worker.taken, worker.running = len(worker.produced), 0
            self.scheduler.heartbeat(worker.beat(), 0.0)
        assert self.scheduler.free(Kind.GENERATE) == SLOTS * len(self.workers)


TestSlots = Slots.TestCase
TestSlots.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
