"""What wishes and deadlines do to rows, on a real Postgres."""

import itertools
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Literal

import pytest
from sqlalchemy import Connection, text

from runtime.database import Database, admissions, control, jobs, outcomes, queries, remembered, workers
from runtime.database.admissions import Source
from runtime.database.consequences import Consequence
from runtime.database.leased import LeasedJob
from runtime.database.resubmission import AT_ONCE
from runtime.database.wishes import Wish, cancelled
from schemas.errors import JobCancelled
from schemas.events import ControlEvent, State, StopEvent
from schemas.limits import JOB_ID_CHARS
from schemas.requests import GenerateRequest
from schemas.results import ErrorInfo, Terminal
from schemas.topics import CONTROL
from tests.integration.database.rows import (
    NOW,
    TRACE,
    admission,
    generate,
    leased,
    queued,
    rejection,
    settlement,
    terminal,
)
from tests.integration.database.waiting import wait_for_lock

Action = Literal["cancel", "retry", "pause", "resume"]
OFFSETS = itertools.count()


def wish(
    action: Action,
    job_id: str = "a",
    *,
    tenant: str = "default",
    reason: str | None = None,
    keep_partial: bool = False,
    new_id: str | None = None,
    offset: int | None = None,
    written_ms: int = 1_000,
) -> Wish:
    """One that is read for the first time, unless it is given an offset."""
    event = ControlEvent(
        action=action, job_id=job_id, tenant=tenant, reason=reason, keep_partial=keep_partial, new_id=new_id
    )
    return Wish(event, TRACE, Source(CONTROL.name, 0, next(OFFSETS) if offset is None else offset), written_ms)


def apply(connection: Connection, *wishes: Wish) -> list[Consequence]:
    return control.apply(connection, wishes, lambda: datetime.now(UTC))


def sweep(connection: Connection) -> list[Consequence]:
    return control.sweep(connection, lambda: datetime.now(UTC), 100)


def state(connection: Connection, job_id: str = "a", tenant: str = "default") -> State:
    job = queries.find_job(connection, tenant, job_id)
    assert job is not None
    return job.state


def can_start(connection: Connection, job_id: str = "a") -> bool:
    return bool(jobs.lease(connection, [(queued(admission(job_id)), "worker-1")], 30.0))


def fail(connection: Connection, job_id: str, request: GenerateRequest | None = None) -> None:
    (item,) = leased(connection, admission(job_id, request))
    error = ErrorInfo("model_not_found", "no such model")
    event = terminal(job_id, status=Terminal.FAILED, error=error)
    outcomes.settle(connection, [outcomes.Settlement(item.lease, event)])


def test_a_queued_job_that_is_cancelled_ends_with_result_and_outbox_row_and_never_starts(
    connection: Connection,
) -> None:
    admissions.admit(connection, [admission("a")])
    (told,) = apply(connection, wish("cancel", reason="too slow"))
    assert (told.fate, told.left_queue, told.stop) == ("cancelled", True, None)
    assert told.status is not None
    assert told.status.state is state(connection) is State.CANCELLED
    result = queries.find_result(connection, "default", "a")
    assert result is not None
    assert (result.status, result.error) == (
        Terminal.CANCELLED, ErrorInfo("cancelled", "Its client cancelled the job: too slow."),
    )  # fmt: skip
    assert connection.execute(text("SELECT job_id FROM outbox")).scalars().all() == ["a"]
    assert not can_start(connection)


def test_cancelling_twice_is_cancelling(connection: Connection) -> None:
    admissions.admit(connection, [admission("a")])
    first, second = (apply(connection, wish("cancel"))[0] for _ in range(2))
    assert (first.fate, second.fate, second.reason) == ("cancelled", "unfit", "it has ended as cancelled")
    assert second.status is None
    assert len(apply(connection, wish("cancel"), wish("cancel"))) == 1


def test_the_worker_of_a_leased_job_is_told_on_its_partition(connection: Connection) -> None:
    workers.claim_partition(connection, "worker-0", "host", 30.0)
    partition = workers.claim_partition(connection, "worker-1", "host", 30.0)
    (item,) = leased(connection, admission("a"))
    asked = wish("cancel", keep_partial=True)
    (told,) = apply(connection, asked)
    assert (told.fate, told.stop, told.partition) == ("told", StopEvent(item.lease, asked.event), partition)
    assert told.status is not None
    assert told.status.state is State.CANCELLING
    assert jobs.renew(connection, [item.lease], 30.0) == {item.lease: asked.event}
    (again,) = apply(connection, wish("cancel"))
    assert (again.fate, again.stop, again.status) == ("repeated", told.stop, None)


def test_a_wish_about_a_job_without_a_known_worker_is_noted_all_the_same(connection: Connection) -> None:
    (item,) = leased(connection, admission("a"))
    (told,) = apply(connection, wish("pause"))
    assert (told.fate, told.partition) == ("told", None)
    assert jobs.renew(connection, [item.lease], 30.0) == {item.lease: wish("pause").event}


def test_another_tenants_job_is_untouched(connection: Connection) -> None:
    admissions.admit(connection, [admission("a", tenant="red")])
    (told,) = apply(connection, wish("cancel", tenant="blue"))
    assert told.fate == "remembered"
    assert state(connection, tenant="red") is State.QUEUED


def test_a_job_that_has_ended_keeps_its_end(connection: Connection) -> None:
    (item,) = leased(connection, admission("a"))
    outcomes.settle(connection, [settlement(item)])
    for action in ("cancel", "pause", "resume", "retry"):
        (told,) = apply(connection, wish(action))
        assert (told.fate, told.reason, told.status) == ("unfit", "it has ended as succeeded", None)
    assert state(connection) is State.SUCCEEDED


def test_a_cancel_that_is_read_before_its_request_ends_the_job_once_it_is_admitted(connection: Connection) -> None:
    (told,) = apply(connection, wish("cancel"))
    assert told.fate == "remembered"
    apply(connection, wish("pause"))
    admissions.admit(connection, [admission("a"), admission("b")])
    assert not can_start(connection)
    assert can_start(connection, "b")
    assert [(item.job_id, item.fate) for item in sweep(connection)] == [("a", "cancelled")]
    assert state(connection) is State.CANCELLED
    assert connection.execute(text("SELECT * FROM wishes")).all() == []


def test_a_pause_that_was_withdrawn_before_the_request_came_does_nothing(connection: Connection) -> None:
    apply(connection, wish("pause"))
    assert apply(connection, wish("resume"))[0].fate == "remembered"
    admissions.admit(connection, [admission("a")])
    assert can_start(connection)
    assert [(item.action, item.fate) for item in sweep(connection)] == [("resume", "unfit")]
    assert sweep(connection) == []


def test_a_wish_and_an_admission_that_did_not_see_each_other_meet_in_the_sweep(connection: Connection) -> None:
    admissions.admit(connection, [admission("a")])
    remembered.remember(connection, [wish("cancel").event])
    assert [(item.job_id, item.fate) for item in sweep(connection)] == [("a", "cancelled")]
    assert sweep(connection) == []


def test_a_wish_of_a_later_release_is_left_for_it(connection: Connection) -> None:
    admissions.admit(connection, [admission("a")])
    remembered.remember(connection, [wish("cancel").event])
    later = {"control": '{"action": "hurry", "job_id": "a"}'}
    connection.execute(text("UPDATE wishes SET control = CAST(:control AS json)"), later)
    assert sweep(connection) == []
    assert len(connection.execute(text("SELECT * FROM wishes")).all()) == 1


def test_a_wish_whose_request_never_comes_is_forgotten_in_the_end(connection: Connection) -> None:
    apply(connection, wish("cancel"))
    sweep(connection)
    assert len(connection.execute(text("SELECT * FROM wishes")).all()) == 1
    connection.execute(text("UPDATE wishes SET created_at = now() - interval '8 days'"))
    sweep(connection)
    assert connection.execute(text("SELECT * FROM wishes")).all() == []


def test_a_paused_job_waits_until_it_is_resumed(connection: Connection) -> None:
    admissions.admit(connection, [admission("a")])
    (paused,) = apply(connection, wish("pause"))
    assert (paused.fate, paused.left_queue, state(connection)) == ("moved", True, State.PAUSED)
    assert not can_start(connection)
    assert apply(connection, wish("pause"))[0].fate == "unfit"
    (resumed,) = apply(connection, wish("resume"))
    assert (resumed.fate, resumed.left_queue, state(connection)) == ("moved", False, State.QUEUED)
    assert can_start(connection)


def test_wishes_of_one_batch_are_carried_out_in_their_order(connection: Connection) -> None:
    admissions.admit(connection, [admission("a"), admission("b")])
    asked = [wish("pause"), wish("resume"), wish("pause", "b"), wish("pause"), wish("pause"), wish("resume", "b")]
    apply(connection, *asked)
    assert (state(connection, "a"), state(connection, "b")) == (State.PAUSED, State.QUEUED)


def test_a_paused_job_can_be_cancelled(connection: Connection) -> None:
    admissions.admit(connection, [admission("a")])
    apply(connection, wish("pause"), wish("cancel"))
    assert state(connection) is State.CANCELLED


@pytest.mark.parametrize(
    ("wishes", "given_back_as", "becomes"),
    [
        (["pause"], State.PAUSED, State.PAUSED),
        (["pause", "resume"], State.PAUSED, State.QUEUED),
        (["pause", "resume", "pause"], State.PAUSED, State.PAUSED),
        (["pause", "cancel"], State.PAUSED, State.CANCELLED),
        (["cancel", "pause"], State.QUEUED, State.CANCELLED),
        (["pause"], State.QUEUED, State.PAUSED),
        (["pause", "resume"], State.QUEUED, State.QUEUED),
        ([], State.QUEUED, State.QUEUED),
    ],
)
def test_a_job_that_its_worker_gives_back_goes_where_its_client_wants_it(
    wishes: list[Action], given_back_as: State, becomes: State, connection: Connection
) -> None:
    (item,) = leased(connection, admission("a"))
    apply(connection, *(wish(action) for action in wishes))
    jobs.give_back(connection, [item.lease], given_back_as)
    sweep(connection)
    assert state(connection) is becomes
    assert can_start(connection) is (becomes is State.QUEUED)


def test_a_job_whose_worker_was_lost_while_it_was_cancelled_does_not_run_again(connection: Connection) -> None:
    (item,) = leased(connection, admission("a"), lease_s=-1.0)
    apply(connection, wish("cancel"))
    outcomes.requeue(connection, [item.lease], [0.0])
    assert not can_start(connection)
    sweep(connection)
    assert state(connection) is State.CANCELLED


def test_a_retried_job_runs_as_a_job_of_its_own(connection: Connection) -> None:
    fail(connection, "a", generate("again"))
    connection.execute(text("UPDATE jobs SET cost = 7"))
    (told,) = apply(connection, wish("retry", offset=41))
    assert (told.fate, told.job_id) == ("resubmitted", "a.r41")
    (item,) = jobs.lease(connection, [(queued(admission("a.r41")), "worker-1")], 30.0)
    assert isinstance(item.job.request, GenerateRequest)
    assert (item.job.request.prompt, item.job.request.id, item.job.attempt) == ("again", "a.r41", 1)
    assert state(connection) is State.FAILED
    assert connection.execute(text("SELECT cost FROM jobs WHERE id LIKE 'a%'")).scalars().all() == [7, 7]
    (again,) = apply(connection, wish("retry", offset=41))
    assert (again.fate, again.reason, again.status) == ("unfit", "it was carried out before", None)
    assert connection.execute(text("SELECT count(*) FROM jobs")).scalar_one() == 2


def test_a_wish_that_comes_late_does_not_undo_the_newer_one_that_took_it_back(connection: Connection) -> None:
    admissions.admit(connection, [admission("a")])
    pause, resume = wish("pause"), wish("resume")
    # The process that had the partition before has read the pause too, and Postgres was away.
    apply(connection, pause, resume)
    (late,) = apply(connection, pause)
    assert (late.fate, late.reason) == ("unfit", "it was carried out before")
    assert state(connection) is State.QUEUED
    assert [item.fate for item in apply(connection, pause, resume, wish("pause"))] == ["moved", "unfit", "unfit"]
    assert state(connection) is State.PAUSED


def test_late_wishes_come_in_any_order_and_from_any_partition(connection: Connection) -> None:
    admissions.admit(connection, [admission("a"), admission("b")])
    there = replace(wish("pause", "b"), source=Source(CONTROL.name, 1, 0))
    # The cancel lies before the pause of the other partition, and is none of those that were carried out.
    cancel, pause = wish("cancel"), wish("pause", "b")
    assert [item.fate for item in apply(connection, there)] == ["moved"]
    assert [item.fate for item in apply(connection, cancel)] == ["cancelled"]
    assert [item.fate for item in apply(connection, there, pause)] == ["unfit", "unfit"]
    assert state(connection) is State.CANCELLED


def test_a_worker_is_told_again_of_a_wish_that_was_carried_out_before(connection: Connection) -> None:
    (item,) = leased(connection, admission("a"))
    asked = wish("cancel")
    apply(connection, asked)
    (again,) = apply(connection, asked)
    assert (again.fate, again.stop, again.status) == ("repeated", StopEvent(item.lease, asked.event), None)


def test_wishes_are_carried_out_although_their_topic_was_made_anew(connection: Connection) -> None:
    admissions.admit(connection, [admission("a")])
    apply(connection, wish("pause", offset=1_000_000))
    assert apply(connection, wish("resume", offset=0, written_ms=1_001))[0].fate == "moved"
    assert apply(connection, wish("pause", offset=0, written_ms=1_001))[0].fate == "unfit"
    assert apply(connection, wish("pause", offset=1, written_ms=1_001))[0].fate == "moved"


def test_two_dispatchers_carry_out_the_wishes_of_a_partition_one_after_the_other(database: Database) -> None:
    pause = wish("pause", "late-1")
    with database.begin() as connection:
        admissions.admit(connection, [admission("late-1")])
    with ThreadPoolExecutor(1) as pool, closing(database.engine.connect()) as first:
        with first.begin():
            apply(first, pause, wish("resume", "late-1"))

            def late() -> str:
                with database.begin() as connection:
                    return apply(connection, pause)[0].reason

            waiting = pool.submit(late)
            wait_for_lock(database)
        assert waiting.result(10) == "it was carried out before"
    with database.begin() as connection:
        assert state(connection, "late-1") is State.QUEUED
        connection.execute(text("DELETE FROM jobs WHERE id = 'late-1'"))
        connection.execute(text("DELETE FROM carried_out"))


def test_a_retry_takes_the_id_that_its_client_chose_unless_another_job_has_it(connection: Connection) -> None:
    fail(connection, "a")
    admissions.admit(connection, [admission("taken", generate("other"))])
    fine, conflict = (apply(connection, wish("retry", new_id=new_id))[0] for new_id in ("b", "taken"))
    assert (fine.fate, fine.job_id) == ("resubmitted", "b")
    assert conflict.fate == "unfit"
    assert "taken exists already" in conflict.reason


def test_the_id_of_a_retried_job_keeps_the_limit(connection: Connection) -> None:
    fail(connection, "x" * JOB_ID_CHARS)
    (told,) = apply(connection, wish("retry", "x" * JOB_ID_CHARS, offset=7))
    assert len(told.job_id) == JOB_ID_CHARS
    assert told.job_id.endswith("x.r7")


def test_an_expired_job_is_retried_without_the_deadline_that_it_missed(connection: Connection) -> None:
    request = GenerateRequest(model="example-base", prompt="p", deadline=NOW)
    admissions.admit(connection, [admission("a", request)])
    sweep(connection)
    apply(connection, wish("retry", new_id="b"))
    (item,) = jobs.lease(connection, [(queued(admission("b")), "worker-1")], 30.0)
    assert item.job.request.deadline is None


def test_a_request_that_was_refused_is_not_retried(connection: Connection) -> None:
    admissions.admit(connection, [rejection("a")])
    assert apply(connection, wish("retry"))[0].reason == "it has ended as rejected"


def test_a_retry_ends_the_wait_after_a_lost_attempt(connection: Connection) -> None:
    (item,) = leased(connection, admission("a"), lease_s=-1.0)
    outcomes.requeue(connection, [item.lease], [3_600.0])
    assert apply(connection, wish("retry"))[0].fate == "moved"
    waits = connection.execute(text("SELECT available_at > now() FROM jobs")).scalar_one()
    assert not waits
    (again,) = apply(connection, wish("retry"))
    assert again.reason == "it has not ended, it is queued: cancel it first to run it anew"


def test_a_job_whose_deadline_passes_while_it_waits_expires_and_one_that_runs_is_left_to_its_worker(
    connection: Connection,
) -> None:
    late = GenerateRequest(model="example-base", prompt="p", deadline=datetime.now(UTC) - timedelta(seconds=1))
    soon = GenerateRequest(model="example-base", prompt="p", deadline=datetime.now(UTC) + timedelta(hours=1))
    admissions.admit(connection, [admission("late", late), admission("paused", late), admission("soon", soon)])
    admissions.admit(connection, [admission("running", soon)])
    assert can_start(connection, "running")
    connection.execute(text("UPDATE jobs SET deadline = now() WHERE id = 'running'"))
    connection.execute(text("UPDATE jobs SET state = 'paused' WHERE id = 'paused'"))
    assert not can_start(connection, "late")
    assert {(item.job_id, item.fate) for item in sweep(connection)} == {("late", "expired"), ("paused", "expired")}
    found = [state(connection, job_id) for job_id in ("late", "paused", "soon", "running")]
    assert found == [State.EXPIRED, State.EXPIRED, State.QUEUED, State.SCHEDULED]
    result = queries.find_result(connection, "default", "late")
    assert result is not None
    assert result.error is not None
    assert f"{late.deadline:%Y-%m-%dT%H}" in result.error.message


def test_a_reason_and_a_partial_wish_reach_the_worker_in_words() -> None:
    stop = cancelled(wish("cancel", reason="Too slow.", keep_partial=True).event)
    assert isinstance(stop, JobCancelled)
    assert (str(stop), stop.keep_partial) == ("Its client cancelled the job: Too slow.", True)


@pytest.mark.parametrize("seed", range(8))
def test_a_cancel_that_races_with_dispatch_finds_each_job_before_or_after_its_start(
    seed: int, database: Database
) -> None:
    """Two connections at once: every job either ended without a lease, or its worker's renewal brings the wish."""
    dice = random.Random(seed)
    ids = [f"race-{seed}-{number}" for number in range(40)]
    with database.begin() as connection:
        admissions.admit(connection, [admission(job_id) for job_id in ids])
    start = threading.Barrier(2)

    def lease(batches: list[list[str]]) -> list[LeasedJob]:
        start.wait()
        taken = []
        for batch in batches:
            with database.begin() as connection:
                pairs = [(queued(admission(job_id)), "worker-1") for job_id in batch]
                taken += jobs.lease(connection, pairs, 30.0)
        return taken

    def cancel(batches: list[list[str]]) -> list[Consequence]:
        start.wait()
        told = []
        for batch in batches:
            with database.begin() as connection:
                told += apply(connection, *(wish("cancel", job_id) for job_id in batch))
        return told

    with ThreadPoolExecutor(2) as threads:
        leasing, cancelling = threads.submit(lease, _batches(ids, dice)), threads.submit(cancel, _batches(ids, dice))
        started, told = leasing.result(), cancelling.result()
    with database.begin() as connection:
        wishes = jobs.renew(connection, [item.lease for item in started], 30.0)
    assert all(found and found.action == "cancel" for found in wishes.values())
    assert {lease.job_id for lease in wishes} == {item.job_id for item in told if item.fate == "told"}
    assert {item.job_id for item in told if item.fate == "cancelled"} == set(ids) - {item.job.id for item in started}


def _batches(ids: list[str], dice: random.Random) -> list[list[str]]:
    """The ids in a random order, in batches of random size; each in an order of its own, as its sender has it."""
    shuffled = dice.sample(ids, len(ids))
    batches = []
    while shuffled:
        size = dice.randint(1, 5)
        # Two transactions that lock the same rows in different orders may deadlock; Postgres ends one of
        # them, and it is tried again (``DatabaseThread.insist``).
        batches.append(sorted(shuffled[:size]))
        shuffled = shuffled[size:]
    return batches


def test_many_retries_at_once_find_their_own_requests_and_one_that_can_not_be_read_holds_up_none(
    connection: Connection,
) -> None:
    number = 2 * AT_ONCE + 3
    items = leased(connection, *(admission(str(index), generate(f"prompt {index}")) for index in range(number)))
    failed = ErrorInfo("worker_lost", "lost")
    ends = [terminal(item.job.id, status=Terminal.FAILED, error=failed) for item in items]
    outcomes.settle(connection, [replace(settlement(item), event=end) for item, end in zip(items, ends, strict=True)])
    connection.execute(text("UPDATE jobs SET request = (request::jsonb || '{\"novelty\": 1}')::json WHERE id = '7'"))
    told = apply(connection, *(wish("retry", str(index), new_id=f"again-{index}") for index in range(number)))
    assert [item.fate for item in told] == ["unfit" if index == 7 else "resubmitted" for index in range(number)]
    assert "a later release" in told[7].reason
    prompts = connection.execute(text("SELECT id, request->>'prompt' FROM jobs WHERE id LIKE 'again-%'")).all()
    assert {tuple(row) for row in prompts} == {(f"again-{n}", f"prompt {n}") for n in range(number) if n != 7}
