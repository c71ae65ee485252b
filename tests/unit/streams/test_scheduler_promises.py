"""The scheduler's promises hold in every order of events, and a scheduler that breaks one is caught."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import run_state_machine_as_test

from runtime.database.jobs import QueuedJob
from streams.credits import Assignment, Worker
from streams.lanes import Lane
from streams.parking import Parking
from streams.placement import Offers
from streams.scheduler import Scheduler
from streams.waiting import AGING_S
from tests.unit.streams.cluster import Cluster
from tests.unit.streams.records import beat, job

TestCluster = Cluster.TestCase
TestCluster.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)


ages_s = st.sampled_from([0.0, 0.5 * AGING_S, AGING_S, 1.5 * AGING_S, 2 * AGING_S, 9 * AGING_S])
some_jobs = st.lists(st.tuples(st.integers(0, 2), ages_s, st.sampled_from("xyz"), st.integers(1, 5_000)), max_size=30)


def order(scheduler: Scheduler, jobs: Sequence[tuple[int, float, str, int]], waits_s: float) -> list[QueuedJob]:
    """The jobs in the order in which they go, one by one, to a worker that holds their model."""
    scheduler.heartbeat(beat("a", slots=len(jobs), models=("m",)), 0.0)
    scheduler.add(
        (
            job(str(number), priority=priority, age_s=age_s, tenant=tenant, cost=cost)
            for number, (priority, age_s, tenant, cost) in enumerate(jobs)
        ),
        0.0,
    )
    return [scheduler.next_assignments(1, waits_s)[0].job for _ in jobs]


def level(queued: QueuedJob, waits_s: float) -> int:
    return max(0, queued.priority - int((queued.waited_s + waits_s) / AGING_S))


@settings(deadline=None)
@given(some_jobs, ages_s)
def test_no_job_goes_before_one_of_a_higher_priority_where_each_wait_of_five_minutes_counts_as_one_higher(
    jobs: list[tuple[int, float, str, int]], waits_s: float
) -> None:
    levels = [level(each, waits_s) for each in order(Scheduler(), jobs, waits_s)]
    assert levels == sorted(levels)


@settings(deadline=None)
@given(some_jobs)
def test_a_tenant_s_jobs_of_one_model_and_level_go_by_age(jobs: list[tuple[int, float, str, int]]) -> None:
    went = [each for each in order(Scheduler(), jobs, 0.0) if each.tenant == "x" and each.priority == 1]
    by_level = [(level(each, 0.0), -each.waited_s) for each in went]
    assert by_level == sorted(by_level)


class Ageless(Scheduler):
    """Leaves jobs where their priority put them."""

    def add(self, jobs: Iterable[QueuedJob], at_s: float) -> None:
        super().add((replace(each, waited_s=0.0) for each in jobs), at_s)


def test_jobs_that_do_not_age_are_caught() -> None:
    went = order(Ageless(), [(1, 0.0, "x", 1), (2, 9 * AGING_S, "x", 1)], 0.0)
    assert [each.id for each in went] == ["0", "1"]
    assert [each.id for each in order(Scheduler(), [(1, 0.0, "x", 1), (2, 9 * AGING_S, "x", 1)], 0.0)] == ["1", "0"]


class Generous(Scheduler):
    """Forgets to count a job in its slot."""

    def _assign(self, worker: Worker, job: QueuedJob, at_s: float) -> Assignment:
        assignment = super()._assign(worker, job, at_s)
        worker.release(assignment)
        return assignment


class Doubling(Scheduler):
    """Leaves a job that it gave in the queue."""

    def _of_lane(self, lane: Lane, offers: Offers, at_s: float) -> Iterator[Assignment]:
        for assignment in super()._of_lane(lane, offers, at_s):
            yield assignment
            lane.push(assignment.job, at_s)


class Losing(Scheduler):
    """Takes a job of the lowest priority out and gives it to nobody."""

    def _of_lane(self, lane: Lane, offers: Offers, at_s: float) -> Iterator[Assignment]:
        for assignment in super()._of_lane(lane, offers, at_s):
            if assignment.job.priority < 2:
                yield assignment


class Sociable(Scheduler):
    """Gives the worker of a last attempt other jobs too."""

    def _alone(self, at_s: float) -> Iterator[Assignment]:
        for assignment in super()._alone(at_s):
            self._fleet.by_id[assignment.worker_id].alone = None
            yield assignment


class Busy(Scheduler):
    """Gives last attempts to workers that are not idle, as if they were any other."""

    def add(self, jobs: Iterable[QueuedJob], at_s: float) -> None:
        for each in jobs:
            lane = self._lanes[each.kind]
            if (each.tenant, each.id) not in lane.jobs:
                lane.push(each, at_s)


class Patient(Scheduler):
    """Never looks again at a job that waits for a certain worker."""

    class _Deaf(Parking):
        def wake_due(self, at_s: float) -> None:
            """Nothing."""

        def wake_cold(self) -> None:
            """Nothing."""

    def __init__(self) -> None:
        super().__init__()
        for lane in self._lanes.values():
            lane.parking = self._Deaf()


class Leaking(Scheduler):
    """Does not give a slot back whose job was not leased."""

    def release(self, assignment: Assignment) -> None:
        """Nothing."""


class Deaf(Scheduler):
    """Takes out what was cancelled, and forgets to say so."""

    def remove(self, tenant: str, job_id: str) -> bool:
        super().remove(tenant, job_id)
        return False


class Unreserved(Scheduler):
    """Never keeps a worker free for a last attempt, nor takes an idle one."""

    def _alone(self, at_s: float) -> Iterator[Assignment]:  # noqa: ARG002
        yield from ()


BROKEN = [Generous, Doubling, Losing, Sociable, Busy, Patient, Leaking, Deaf, Unreserved]


@pytest.mark.parametrize("broken", BROKEN, ids=lambda each: each.__name__)
def test_a_broken_scheduler_is_caught(broken: type[Scheduler]) -> None:
    class Broken(Cluster):
        scheduler_type = broken

    # The rarest, Sociable, took 4 to 874 runs, alone. In the whole suite 300 were not enough twice: probably because
    # hypothesis draws constants from what is imported.
    found = settings(
        max_examples=10_000,
        stateful_step_count=40,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
    with pytest.raises(AssertionError):
        run_state_machine_as_test(Broken, settings=found)
