"""Checkpoints, and what they spare a job that loses its workers, on a real Postgres."""

from dataclasses import replace

import pytest
from sqlalchemy import Connection, text

from runtime.database import checkpoints, jobs, outcomes, queries
from runtime.database.checkpoints import Checkpoint
from runtime.database.leased import LeasedJob
from runtime.database.queue import BEGINNING
from runtime.database.queue import queued as read_queue
from schemas.events import State
from schemas.topics import Kind
from tests.integration.database.rows import admission, leased, settlement

LEFT = Checkpoint(10, b'{"step": 10}', "file:///store/abc", "a" * 64, 1_000)


def lose(connection: Connection, item: LeasedJob) -> LeasedJob:
    """The next attempt at a job whose worker was lost."""
    connection.execute(text("UPDATE jobs SET lease_expires_at = now() - interval '1 s'"))
    assert outcomes.requeue(connection, [item.lease], [0.0]) == {item.lease}
    (job,) = read_queue(connection, Kind.GENERATE, BEGINNING, 10).jobs
    (again,) = jobs.lease(connection, [(job, "worker-2")], 30.0)
    return again


def lost(connection: Connection, item: LeasedJob) -> int:
    """What the reaper is told of a lease that runs out now."""
    connection.execute(text("UPDATE jobs SET lease_expires_at = now() - interval '1 s'"))
    (found,) = outcomes.expired(connection, 10)
    assert found.lease == item.lease
    return found.lost


def test_a_checkpoint_is_found_by_the_next_attempt(connection: Connection) -> None:
    (first,) = leased(connection, admission("a"))
    assert checkpoints.find(connection, "default", "a") is None
    assert checkpoints.save(connection, first.lease, LEFT)
    lose(connection, first)
    assert checkpoints.find(connection, "default", "a") == LEFT
    assert checkpoints.find(connection, "other", "a") is None


def test_a_checkpoint_replaces_the_one_before_it(connection: Connection) -> None:
    (item,) = leased(connection, admission("a"))
    checkpoints.save(connection, item.lease, LEFT)
    later = replace(LEFT, position=20, artifact_sha256="b" * 64)
    assert checkpoints.save(connection, item.lease, later)
    assert checkpoints.find(connection, "default", "a") == later


def test_an_attempt_that_lost_its_lease_leaves_no_checkpoint(connection: Connection) -> None:
    (old,) = leased(connection, admission("a"))
    new = lose(connection, old)
    assert not checkpoints.save(connection, old.lease, LEFT)
    assert checkpoints.save(connection, new.lease, LEFT)
    outcomes.settle(connection, [settlement(new)])
    assert not checkpoints.save(connection, new.lease, replace(LEFT, position=20))


def test_a_lost_attempt_counts_unless_it_came_further_than_the_one_before(connection: Connection) -> None:
    (first,) = leased(connection, admission("a"))
    second = lose(connection, first)
    assert lost(connection, second) == 2
    checkpoints.save(connection, second.lease, LEFT)
    assert lost(connection, second) == 1
    third = lose(connection, second)
    assert lost(connection, third) == 2
    fourth = lose(connection, third)
    checkpoints.save(connection, fourth.lease, LEFT)
    assert lost(connection, fourth) == 3
    assert fourth.job.attempt == 4


def test_the_queue_tells_how_often_a_job_has_lost_its_worker(connection: Connection) -> None:
    (item,) = leased(connection, admission("a"))
    again = lose(connection, item)
    jobs.give_back(connection, [again.lease], State.QUEUED)
    page = read_queue(connection, Kind.GENERATE, BEGINNING, 10)
    assert [(job.id, job.attempt, job.lost_attempts) for job in page.jobs] == [("a", 2, 1)]


@pytest.mark.parametrize("state", [State.QUEUED, State.PAUSED])
def test_a_lease_that_is_given_back_costs_no_attempt_and_writes_no_more(connection: Connection, state: State) -> None:
    (item,) = leased(connection, admission("a"))
    assert jobs.give_back(connection, [item.lease], state) == {item.lease}
    job = queries.find_job(connection, "default", "a")
    assert job is not None
    assert (job.state, job.attempt, job.worker_id) == (state, 1, None)
    assert outcomes.settle(connection, [settlement(item)]) == set()
    assert not checkpoints.save(connection, item.lease, LEFT)
    assert jobs.give_back(connection, [item.lease], state) == set()


def test_checkpoints_of_ended_jobs_are_found_and_deleted_and_no_others(connection: Connection) -> None:
    ended, running = leased(connection, admission("a"), admission("b"))
    for item in (ended, running):
        checkpoints.save(connection, item.lease, LEFT)
    outcomes.settle(connection, [settlement(ended)])
    (found,) = checkpoints.ended(connection, 10)
    assert (found.tenant, found.job_id, found.checkpoint) == ("default", "a", LEFT)
    checkpoints.delete(connection, [("default", "a"), ("default", "b")])
    assert checkpoints.find(connection, "default", "a") is None
    assert checkpoints.find(connection, "default", "b") == LEFT


def test_checkpoints_that_can_t_be_deleted_do_not_hide_the_new_ones(connection: Connection) -> None:
    items = leased(connection, admission("a"), admission("b"))
    for item in items:
        checkpoints.save(connection, item.lease, LEFT)
    connection.execute(text("UPDATE checkpoints SET created_at = now() - interval '1 h' WHERE job_id = 'a'"))
    outcomes.settle(connection, [settlement(item) for item in items])
    (found,) = checkpoints.ended(connection, 1)
    assert found.job_id == "b"
