"""What clients want of their jobs, and what deadlines demand; every function may be repeated.

The rows of jobs are locked, the decisions are made (``wishes``), and each kind of decision is one
statement. All of it is one transaction of the caller's.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from math import inf
from typing import Any, Final

from sqlalchemy import Connection, Row, text

from runtime.database import carried_out, remembered
from runtime.database.consequences import Case, Consequence, consequence, ended, expiry, resubmission, terminal
from runtime.database.resubmission import resubmit
from runtime.database.wishes import (
    Decision,
    End,
    Move,
    Remember,
    Resubmit,
    Standing,
    Tell,
    TellAgain,
    Wish,
    Withdraw,
    cancelled,
    decide,
    decide_again,
    noted,
)
from schemas.codec import encode
from schemas.errors import JobStopped
from schemas.events import ControlEvent, State
from schemas.topics import Kind

_COLUMNS: Final = """
    jobs.tenant, jobs.id, jobs.kind, jobs.state, jobs.attempt, jobs.epoch, jobs.worker_id, jobs.traceparent,
    jobs.request_sha256, jobs.queued_at, jobs.deadline, jobs.available_at > now() AS is_delayed,
    jobs.control::text AS control
"""

#: In one order, so that two transactions do not wait for each other.
LOCK_JOBS: Final = text(f"""
    SELECT {_COLUMNS}
    FROM unnest(CAST(:tenants AS text[]), CAST(:ids AS text[])) AS item(tenant, id)
    JOIN jobs ON jobs.tenant = item.tenant AND jobs.id = item.id
    ORDER BY jobs.tenant, jobs.id
    FOR UPDATE OF jobs
""")  # noqa: S608  a constant

#: Jobs whose worker left them, or that were admitted, with a wish. What a later release wants is left for it.
LOCK_CONTROLLED: Final = text(f"""
    SELECT {_COLUMNS}
    FROM jobs
    WHERE state = 'queued' AND control IS NOT NULL
      AND control->>'action' IN ('cancel', 'pause', 'resume', 'retry')
    LIMIT :most
    FOR UPDATE SKIP LOCKED
""")  # noqa: S608

LOCK_OVERDUE: Final = text(f"""
    SELECT {_COLUMNS}
    FROM jobs
    WHERE deadline IS NOT NULL AND state IN ('queued', 'paused') AND deadline <= now()
    ORDER BY deadline
    LIMIT :most
    FOR UPDATE SKIP LOCKED
""")  # noqa: S608

END_WAITING: Final = text("""
    WITH item AS (
        SELECT * FROM unnest(CAST(:tenants AS text[]), CAST(:ids AS text[]), CAST(:statuses AS text[]),
                             CAST(:events AS text[]), CAST(:times AS timestamptz[]), CAST(:errors AS text[]))
                 AS item(tenant, id, status, event, at, error_code)
    ), ended AS (
        UPDATE jobs
        SET state = item.status, finished_at = item.at, error_code = item.error_code, control = NULL
        FROM item
        WHERE jobs.tenant = item.tenant AND jobs.id = item.id
          AND CASE WHEN jobs.state IN ('queued', 'paused') THEN true END
        RETURNING item.*, jobs.attempt, jobs.traceparent
    ), result AS (
        INSERT INTO results (tenant, job_id, status, attempt, event, finished_at)
        SELECT tenant, id, status, attempt, event::json, at FROM ended
    )
    INSERT INTO outbox (tenant, job_id, traceparent, event, created_at)
    SELECT tenant, id, traceparent, event::json, now() FROM ended
""")

CHANGE_JOBS: Final = text("""
    UPDATE jobs
    SET state = item.becomes, control = item.control::json,
        available_at = CASE WHEN item.becomes = 'queued' THEN now() ELSE jobs.available_at END
    FROM unnest(CAST(:tenants AS text[]), CAST(:ids AS text[]), CAST(:was AS text[]), CAST(:becomes AS text[]),
                CAST(:controls AS text[])) AS item(tenant, id, was, becomes, control)
    WHERE jobs.tenant = item.tenant AND jobs.id = item.id
      AND CASE WHEN jobs.state = item.was THEN true END
""")

SELECT_PARTITIONS: Final = text("""
    SELECT worker_id, partition FROM workers WHERE worker_id = ANY(CAST(:workers AS text[]))
""")

#: Tells when a job ends, asked in the transaction: it may have been tried for long.
Clock = Callable[[], datetime]


def apply(connection: Connection, wishes: Sequence[Wish], clock: Clock) -> list[Consequence]:
    """Carry out clients' wishes, those about one job in their order; what came of each.

    A wish that is repeated changes nothing, and one that was carried out before, by its source, is only told again to
    a worker that may not have heard of it. Jobs that wait end or pause here, with result and outbox row;
    of those that have a worker the wish is noted, and the caller tells the worker.
    """
    done, new = carried_out.divide(connection, wishes)
    now, consequences = clock(), list[Consequence]()
    for some in _rounds(new):
        jobs = _locked(connection, some)
        # A wish about a job that is there replaces the one that came before the job.
        remembered.forget(connection, jobs)
        consequences += _carry_out(connection, [_case(wish, jobs.get(wish.key), decide) for wish in some], now)
    if done:
        jobs = _locked(connection, done)
        consequences += _carry_out(connection, [_case(wish, jobs.get(wish.key), decide_again) for wish in done], now)
    return consequences


def sweep(connection: Connection, clock: Clock, most: int, since_s: float = inf) -> list[Consequence]:
    """Carry out what was noted of jobs that wait by now, and end those whose deadline has passed, ``most`` of each.

    ``since_s`` is the time since the last sweep of the same process.
    """
    consequences = apply(connection, [Wish(wish) for wish in remembered.take_met(connection, since_s, most)], clock)
    now = clock()
    controlled = _standings(connection.execute(LOCK_CONTROLLED, {"most": most}))
    cases = [_case(Wish(job.control), job, decide) for job in controlled if job.control]
    remembered.forget_noted(connection, [case.wish.event for case in cases])
    consequences += _carry_out(connection, cases, now)
    overdue = [(job, expiry(job)) for job in _standings(connection.execute(LOCK_OVERDUE, {"most": most}))]
    _end(connection, overdue, now)
    remembered.forget_old(connection)
    return consequences + [ended("deadline", job, reason, now) for job, reason in overdue]


def _case(wish: Wish, job: Standing | None, decides: Callable[[Standing | None, ControlEvent], Decision]) -> Case:
    return Case(wish, job, decides(job, wish.event))


def _carry_out(connection: Connection, cases: Sequence[Case], now: datetime) -> list[Consequence]:
    """Write what was decided, with one statement a kind of decision."""
    wanted = [case.wish.event for case in cases if isinstance(case.decision, Remember)]
    remembered.remember(connection, wanted)
    ends = [(case.job, cancelled(case.wish.event)) for case in cases if case.job and isinstance(case.decision, End)]
    _end(connection, ends, now)
    _change(connection, [case for case in cases if isinstance(case.decision, Move | Tell | Withdraw)])
    again = [(case.wish, case.job) for case in cases if case.job and isinstance(case.decision, Resubmit)]
    resubmitted = iter(resubmit(connection, again, now))
    told = [case.job for case in cases if case.job and isinstance(case.decision, Tell | TellAgain)]
    partitions = _partitions(connection, told)
    return [
        resubmission(case, next(resubmitted))
        if isinstance(case.decision, Resubmit)
        else consequence(case, partitions, now)
        for case in cases
    ]


def _locked(connection: Connection, wishes: Iterable[Wish]) -> dict[tuple[str, str], Standing]:
    keys = {wish.key for wish in wishes}
    columns = {"tenants": [tenant for tenant, _ in keys], "ids": [job_id for _, job_id in keys]}
    return {(job.tenant, job.id): job for job in _standings(connection.execute(LOCK_JOBS, columns))}


def _end(connection: Connection, ends: Sequence[tuple[Standing, JobStopped]], now: datetime) -> None:
    if not ends:
        return
    events = [terminal(job, reason, now) for job, reason in ends]
    connection.execute(
        END_WAITING,
        {
            "tenants": [event.tenant for event in events],
            "ids": [event.job_id for event in events],
            "statuses": [event.status.value for event in events],
            "events": [encode(event).decode() for event in events],
            "times": [event.finished_at for event in events],
            "errors": [reason.code for _, reason in ends],
        },
    )


def _change(connection: Connection, cases: Sequence[Case]) -> None:
    """Write the states of jobs that go on waiting, and the wishes about those that have a worker."""
    changes = [(case.job, case.decision, case.wish.event) for case in cases if case.job]
    if not changes:
        return
    connection.execute(
        CHANGE_JOBS,
        {
            "tenants": [job.tenant for job, _, _ in changes],
            "ids": [job.id for job, _, _ in changes],
            "was": [job.state.value for job, _, _ in changes],
            "becomes": [
                (decision.state if isinstance(decision, Move) else job.state).value for job, decision, _ in changes
            ],
            "controls": [
                None if isinstance(decision, Move) else encode(wish).decode() for _, decision, wish in changes
            ],
        },
    )


def _partitions(connection: Connection, jobs: Sequence[Standing]) -> dict[str, int]:
    """The partition of each worker that has one of the jobs."""
    if not jobs:
        return {}
    rows = connection.execute(SELECT_PARTITIONS, {"workers": list({job.worker_id for job in jobs if job.worker_id})})
    return {row.worker_id: row.partition for row in rows}


def _standings(rows: Iterable[Row[Any]]) -> list[Standing]:
    return [_standing(row) for row in rows]


def _standing(row: Row[Any]) -> Standing:
    read = {"kind": Kind(row.kind), "state": State(row.state), "control": noted(row.control)}
    return Standing(**{**row._mapping, **read})


def _rounds(wishes: Sequence[Wish]) -> Iterator[list[Wish]]:
    """The wishes in rounds, in each of which a job occurs once; one that repeats the one before is left out."""
    left = list(wishes)
    while left:
        some: dict[tuple[str, str], Wish] = {}
        last: dict[tuple[str, str], ControlEvent] = {}
        later: list[Wish] = []
        for wish in left:
            key = wish.key
            if key not in some:
                some[key] = wish
            elif wish.event.action == "retry" or wish.event != last[key]:
                later.append(wish)
            last[key] = wish.event
        yield list(some.values())
        left = later
