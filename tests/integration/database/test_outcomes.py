"""Settling and expired leases, on a real Postgres."""

from dataclasses import replace

from sqlalchemy import Connection, Table, func, select, text

from runtime.database import jobs, outcomes, queries, queue, tables
from runtime.database.queue import BEGINNING
from schemas.codec import decode
from schemas.events import Lease, State
from schemas.requests import Dataset, FineTuneRequest
from schemas.results import ResultEvent
from schemas.topics import Kind
from tests.integration.database.rows import admission, leased, queued, settlement, tuned


def count(connection: Connection, table: Table) -> int:
    return connection.execute(select(func.count()).select_from(table)).scalar_one()


def expire(connection: Connection) -> None:
    connection.execute(text("UPDATE jobs SET lease_expires_at = now() - interval '1 s'"))


def test_a_settled_job_has_its_state_result_outbox_and_usage(connection: Connection) -> None:
    (item,) = leased(connection, admission("a"))
    ended = settlement(item)
    assert outcomes.settle(connection, [ended]) == {item.lease}
    job = queries.find_job(connection, "default", "a")
    assert job is not None
    assert job.state is State.SUCCEEDED
    assert queries.find_result(connection, "default", "a") == ended.event
    waiting = connection.execute(text("SELECT event::text FROM outbox")).scalar_one()
    assert decode(ResultEvent, waiting.encode()) == ended.event
    assert count(connection, tables.usage) == 1


def test_a_job_is_settled_once(connection: Connection) -> None:
    (item,) = leased(connection, admission("a"))
    outcomes.settle(connection, [settlement(item)])
    assert outcomes.settle(connection, [settlement(item)]) == set()
    assert count(connection, tables.results) == 1


def test_an_attempt_that_lost_its_lease_changes_nothing(connection: Connection) -> None:
    row = admission("a")
    (old,) = leased(connection, row, lease_s=0.0)
    expire(connection)
    outcomes.requeue(connection, [old.lease], [0.0])
    (new,) = jobs.lease(connection, [(replace(queued(row), lost_attempts=1), "worker-2")], 30.0)
    assert outcomes.settle(connection, [settlement(old)]) == set()
    assert count(connection, tables.results) == 0
    assert outcomes.settle(connection, [settlement(new)]) == {new.lease}
    assert new.job.attempt == 2


def test_a_tuned_model_is_found_by_its_tenant_alone(connection: Connection) -> None:
    request = FineTuneRequest(model="example-base", dataset=Dataset(uri="dates/train.jsonl"))
    (item,) = leased(connection, admission("a", request))
    outcomes.settle(connection, [settlement(item, tuned())])
    found = queries.find_tuned_model(connection, "default", tuned().model)
    assert found is not None
    assert (found.base, found.artifact_sha256) == ("example-base", "a" * 64)
    assert queries.find_tuned_model(connection, "other", tuned().model) is None


def test_only_overdue_leases_are_expired(connection: Connection) -> None:
    first, second = leased(connection, admission("a"), admission("b"))
    assert outcomes.expired(connection, 10) == []
    expire(connection)
    assert {found.lease for found in outcomes.expired(connection, 10)} == {first.lease, second.lease}


def test_a_requeued_job_waits_for_its_delay(connection: Connection) -> None:
    (item,) = leased(connection, admission("a"))
    expire(connection)
    assert outcomes.requeue(connection, [item.lease], [60.0]) == {item.lease}
    assert queue.queued(connection, Kind.GENERATE, BEGINNING, 10).jobs == []


def test_a_renewed_lease_is_not_requeued(connection: Connection) -> None:
    (item,) = leased(connection, admission("a"))
    expire(connection)
    jobs.renew(connection, [item.lease], 30.0)
    assert outcomes.requeue(connection, [item.lease], [0.0]) == set()


def test_nothing_is_done_for_empty_batches(connection: Connection) -> None:
    assert outcomes.settle(connection, []) == set()
    assert outcomes.requeue(connection, [], []) == set()


def test_a_lease_of_another_worker_at_the_same_epoch_does_not_exist(connection: Connection) -> None:
    (item,) = leased(connection, admission("a"))
    forged = Lease(item.lease.tenant, item.lease.job_id, item.lease.epoch + 1, "worker-9")
    assert jobs.renew(connection, [forged], 30.0) == {}
