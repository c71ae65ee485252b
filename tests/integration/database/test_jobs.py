"""Admission and leases, on a real Postgres."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from msgspec import structs
from sqlalchemy import Connection, select, text

from runtime.database import admissions, control, jobs, queue, tables
from runtime.database.admissions import Admitted, Source
from runtime.database.jobs import QueuedJob
from runtime.database.queue import BEGINNING
from runtime.database.wishes import Wish
from schemas.events import ControlEvent, Lease, State
from schemas.topics import Kind
from tests.integration.database.rows import NOW, TRACE, admission, generate, leased, queued, rejection


def waiting(connection: Connection) -> Sequence[QueuedJob]:
    return queue.queued(connection, Kind.GENERATE, BEGINNING, 10).jobs


def test_a_new_request_is_queued(connection: Connection) -> None:
    row = admission("a")
    assert admissions.admit(connection, [row]) == [Admitted.NEW]
    assert waiting(connection) == [queued(row)]


def test_a_job_may_start_at_once_though_the_clock_of_its_admission_was_ahead(connection: Connection) -> None:
    ahead = structs.replace(admission("a"), queued_at=datetime.now(UTC) + timedelta(hours=1))
    assert admissions.admit(connection, [ahead]) == [Admitted.NEW]
    assert [job.id for job in waiting(connection)] == ["a"]


def test_the_same_request_under_the_same_id_runs_once(connection: Connection) -> None:
    fates = admissions.admit(connection, [admission("a"), admission("a")])
    assert fates == [Admitted.NEW, Admitted.REPEATED]
    assert len(waiting(connection)) == 1


def test_another_request_under_the_same_id_is_a_conflict_and_leaves_the_first(connection: Connection) -> None:
    first = admission("a", generate("first"))
    admissions.admit(connection, [first])
    assert admissions.admit(connection, [admission("a", generate("second"))]) == [Admitted.CONFLICT]
    (item,) = jobs.lease(connection, [(queued(first), "worker-1")], 30.0)
    assert item.job.request == generate("first")


def test_of_many_conflicts_in_one_batch_the_first_of_each_is_admitted(connection: Connection) -> None:
    # A merge join, which the planner may choose, sorts the batch first.
    connection.execute(text("SET LOCAL enable_hashjoin = off"))
    connection.execute(text("SET LOCAL enable_nestloop = off"))
    rows = [admission(f"{number}", generate(prompt)) for prompt in ("first", "second") for number in range(500)]
    assert admissions.admit(connection, rows) == [Admitted.NEW] * 500 + [Admitted.CONFLICT] * 500


def test_an_id_belongs_to_its_tenant(connection: Connection) -> None:
    fates = admissions.admit(
        connection, [admission("a", tenant="red"), admission("a", generate("other"), tenant="blue")]
    )
    assert fates == [Admitted.NEW, Admitted.NEW]


def test_a_record_that_is_read_again_after_a_crash_is_told_from_a_repeat(connection: Connection) -> None:
    row = admission("a")
    admissions.admit(connection, [row])
    assert admissions.admit(connection, [row]) == [Admitted.REREAD]


def test_the_order_of_the_answers_is_the_order_of_the_requests(connection: Connection) -> None:
    admissions.admit(connection, [admission("b")])
    rows = [admission("a"), admission("b", generate("other")), admission("c"), admission("b")]
    assert admissions.admit(connection, rows) == [Admitted.NEW, Admitted.CONFLICT, Admitted.NEW, Admitted.REPEATED]


def test_a_refused_request_gets_its_row_its_result_and_its_outbox_row(connection: Connection) -> None:
    assert admissions.admit(connection, [rejection("bad")]) == [Admitted.NEW]
    state = connection.execute(text("SELECT state, error_code FROM jobs WHERE id = 'bad'")).one()
    assert tuple(state) == ("rejected", "invalid_request")
    for table in (tables.results, tables.outbox):
        assert connection.execute(select(table.c.job_id)).scalars().all() == ["bad"]
    assert waiting(connection) == []


def test_a_refused_request_with_a_known_id_writes_no_second_result(connection: Connection) -> None:
    admissions.admit(connection, [admission("a")])
    assert admissions.admit(connection, [rejection("a")]) == [Admitted.CONFLICT]
    assert connection.execute(select(tables.results)).all() == []


def test_a_prompt_may_hold_any_character(connection: Connection) -> None:
    request = generate('NUL \0, quote ", backslash \\, %(x)s, :name, {}, \U0001f600')
    (item,) = leased(connection, admission("a", request))
    assert item.job.request == request


def test_a_job_is_leased_once(connection: Connection) -> None:
    row = admission("a")
    (item,) = leased(connection, row)
    assert item.lease == Lease("default", "a", 1, "worker-1")
    assert jobs.lease(connection, [(queued(row), "worker-2")], 30.0) == []


def test_a_new_job_with_a_worker_is_leased_as_it_is_admitted(connection: Connection) -> None:
    first, second = admission("first"), admission("second")
    fates, (item,) = admissions.admit_and_lease(connection, [first, second], {("default", "second"): "worker-1"}, 30.0)
    assert fates == [Admitted.NEW, Admitted.NEW]
    assert (item.job.request, item.lease) == (second.request, Lease("default", "second", 1, "worker-1"))
    assert jobs.renew(connection, [item.lease], 30.0) == {item.lease: None}
    assert jobs.lease(connection, [(queued(second), "worker-2")], 30.0) == []
    # As it would have been leased later.
    (later,) = jobs.lease(connection, [(queued(first), "worker-1")], 30.0)
    assert replace(later, job=item.job, lease=item.lease) == item


def test_a_lease_of_which_the_answer_was_lost_is_told_again_but_not_one_that_an_earlier_reading_took(
    connection: Connection,
) -> None:
    row, workers = admission("j"), {("default", "j"): "worker-1"}
    answer = admissions.admit_and_lease(connection, [row], workers, 30.0)
    assert admissions.admit_and_lease(connection, [row], workers, 30.0) == ([Admitted.REREAD], answer[1])
    again = structs.replace(row, queued_at=NOW + timedelta(microseconds=1))
    assert admissions.admit_and_lease(connection, [again], workers, 30.0) == ([Admitted.REREAD], [])
    assert admissions.admit_and_lease(connection, [row], {("default", "j"): "worker-2"}, 30.0)[1] == []
    jobs.renew(connection, [answer[1][0].lease], 30.0)
    assert admissions.admit_and_lease(connection, [row], workers, 30.0)[1] == []


def test_no_job_is_leased_as_it_is_admitted_that_will_not_run(connection: Connection) -> None:
    late = admission("late", generate())
    assert late.request is not None
    late = structs.replace(late, request=structs.replace(late.request, deadline=datetime(2020, 1, 1, tzinfo=UTC)))
    wish = ControlEvent(action="cancel", job_id="unwanted")
    control.apply(connection, [Wish(wish, TRACE, Source("headrace.control.v1", 0, 0))], lambda: NOW)
    rows = [rejection("refused"), late, admission("unwanted")]
    workers = {("default", row.id): "worker-1" for row in rows}
    assert admissions.admit_and_lease(connection, rows, workers, 30.0) == ([Admitted.NEW] * 3, [])


def test_a_lease_is_renewed_for_its_epoch_alone(connection: Connection) -> None:
    (item,) = leased(connection, admission("a"))
    stale = Lease("default", "a", 0, "worker-0")
    assert jobs.renew(connection, [item.lease, stale], 30.0) == {item.lease: None}


def test_what_a_worker_that_left_had_is_queued_again_in_the_same_attempt(connection: Connection) -> None:
    scheduled, running = leased(connection, admission("scheduled"), admission("running"))
    (another,) = leased(connection, admission("another"), worker="worker-2")
    jobs.renew(connection, [running.lease], 30.0)
    assert sorted(jobs.vacate(connection, ["worker-1", "nobody"])) == [("default", "running"), ("default", "scheduled")]
    assert jobs.renew(connection, [scheduled.lease, running.lease, another.lease], 30.0) == {another.lease: None}
    (again,) = jobs.lease(connection, [(queued(admission("running")), "worker-2")], 30.0)
    assert (again.job.attempt, again.lease.epoch) == (1, 2)


def test_a_job_that_is_given_back_for_a_while_waits_and_keeps_its_attempt(connection: Connection) -> None:
    (item,) = leased(connection, admission("a"))
    assert jobs.give_back(connection, [item.lease], State.QUEUED, 60.0) == {item.lease}
    assert waiting(connection) == []
    connection.execute(text("UPDATE jobs SET available_at = now()"))
    (again,) = waiting(connection)
    assert (again.attempt, again.lost_attempts) == (1, 0)


def test_nothing_is_done_for_empty_batches(connection: Connection) -> None:
    assert admissions.admit(connection, []) == []
    assert jobs.lease(connection, [], 30.0) == []
    assert jobs.renew(connection, [], 30.0) == {}


def test_a_job_that_has_lost_another_attempt_since_it_was_read_waits_out_its_backoff(connection: Connection) -> None:
    row = admission("a")
    admissions.admit(connection, [row])
    connection.execute(text("UPDATE jobs SET available_at = now() + interval '1 minute'"))
    assert jobs.lease(connection, [(queued(row), "worker-1")], 30.0) == []
    connection.execute(text("UPDATE jobs SET available_at = now(), lost_attempts = 2, attempt = 3"))
    assert jobs.lease(connection, [(queued(row), "worker-1")], 30.0) == []
    (read,) = waiting(connection)
    assert [item.job.id for item in jobs.lease(connection, [(read, "worker-1")], 30.0)] == ["a"]


def test_a_request_that_a_later_release_wrote_waits_for_it_and_holds_up_no_other(connection: Connection) -> None:
    rows = [admission("a"), admission("b")]
    admissions.admit(connection, rows)
    connection.execute(text("UPDATE jobs SET request = (request::jsonb || '{\"novelty\": 1}')::json WHERE id = 'a'"))
    leased_now = jobs.lease(connection, [(queued(row), "worker-1") for row in rows], 30.0)
    assert [item.job.id for item in leased_now] == ["b"]
    state, later = connection.execute(text("SELECT state, available_at > now() FROM jobs WHERE id = 'a'")).one()
    assert (state, later) == ("queued", True)
    connection.execute(text("UPDATE jobs SET state = 'scheduled', lease_expires_at = now() + interval '1 minute'"))
    connection.execute(text("UPDATE jobs SET scheduled_at = now() - interval '1 minute'"))
    connection.execute(
        text("INSERT INTO workers (partition, worker_id, host, lease_expires_at) VALUES (0, 'worker-1', 'here', now())")
    )
    connection.execute(text("UPDATE jobs SET worker_id = 'worker-1'"))
    assert [item.job.id for item, _ in jobs.unconfirmed(connection, 1.0, 10).leases] == ["b"]
