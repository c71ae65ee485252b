"""The statements of ``runtime.database.control`` on the model's rows: what is decided is decided by the product."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from math import inf
from typing import Any, Final

from runtime.database import control
from runtime.database.consequences import Case, Consequence, consequence, ended, expiry, terminal
from runtime.database.control import Clock
from runtime.database.wishes import (
    Decision,
    End,
    Move,
    Remember,
    Resubmit,
    Standing,
    Tell,
    Wish,
    Withdraw,
    cancelled,
    decide,
    decide_again,
)
from schemas.errors import JobStopped
from schemas.events import ControlEvent, State
from tests.simulation.statements import Statement, store_end
from tests.simulation.tables import JobRow, Key, Tables, Transaction

WAITING: Final = (State.QUEUED.value, State.PAUSED.value)


def apply(tables: Tables, tx: Transaction, wishes: Sequence[Wish], clock: Clock) -> list[Consequence]:
    """As ``control.apply``, one wish after the other, without retries of jobs that have ended."""
    now, known = clock(), dict(tables.carried_out)
    done = [wish for wish in wishes if _is_done(known, wish)]
    new = [wish for wish in wishes if not _is_done(known, wish)]
    found = []
    for wish in new:
        if wish.key in tables.jobs:
            tables.wishes.pop(wish.key, None)
        found.append(_carry_out(tables, tx, wish, now))
        if wish.source:
            place = (wish.source.topic, wish.source.partition)
            _, written_ms = tables.carried_out.get(place, (-1, -1))
            tables.carried_out[place] = (wish.source.offset, max(written_ms, wish.written_ms))
    return found + [_carry_out(tables, tx, wish, now, decide_again) for wish in done]


def sweep(tables: Tables, tx: Transaction, clock: Clock, most: int, _since_s: float = inf) -> list[Consequence]:
    """As ``control.sweep``."""
    now = clock()
    met = [tables.wishes.pop(key) for key in sorted(tables.wishes) if key in tables.jobs]
    done = apply(tables, tx, [Wish(wish) for wish in met], clock)
    noted = [row for row in tables.jobs.values() if row.state == State.QUEUED.value and row.control][:most]
    for row in noted:
        if tables.wishes.get(row.key) == row.control:
            del tables.wishes[row.key]
        if row.control:
            done.append(_carry_out(tables, tx, Wish(row.control), now))
    overdue = [row for row in tables.jobs.values() if row.deadline and row.state in WAITING and row.deadline <= tx.now]
    for row in overdue:
        job = _standing(row, tx)
        done.append(ended("deadline", job, expiry(job), now))
        _end(tables, tx, row, job, expiry(job), now)
    return done


#: As ``statements.STATEMENTS``.
STATEMENTS: Final[dict[Callable[..., Any], Statement]] = {control.apply: apply, control.sweep: sweep}


def _is_done(known: Mapping[tuple[str, int], tuple[int, int]], wish: Wish) -> bool:
    if wish.source is None:
        return False
    offset, written_ms = known.get((wish.source.topic, wish.source.partition), (-1, -1))
    return wish.source.offset <= offset and wish.written_ms <= written_ms


def _carry_out(
    tables: Tables,
    tx: Transaction,
    wish: Wish,
    now: datetime,
    decides: Callable[[Standing | None, ControlEvent], Decision] = decide,
) -> Consequence:
    key = wish.key
    row = tables.jobs.get(key)
    job = None if row is None else _standing(row, tx)
    case = Case(wish, job, decides(job, wish.event))
    match case.decision:
        case Remember():
            _remember(tables, key, wish.event)
        case End() if row and job:
            _end(tables, tx, row, job, cancelled(wish.event), now)
        case Move(state) if row:
            row.state, row.control = state.value, None
            if state is State.QUEUED:
                row.available_at = tx.now
        case Tell() | Withdraw() if row:
            row.control = wish.event
        case Resubmit():
            raise NotImplementedError("no simulation retries a job that has ended")
        case _:
            pass
    partitions = {item.worker_id: partition for partition, item in tables.workers.items()}
    return consequence(case, partitions, now)


def _end(tables: Tables, tx: Transaction, row: JobRow, job: Standing, reason: JobStopped, now: datetime) -> None:
    event = terminal(job, reason, now)
    row.state, row.finished_at, row.error_code, row.control = event.status.value, now, reason.code, None
    store_end(tables, tx, row, event)


def _remember(tables: Tables, key: Key, wish: ControlEvent) -> None:
    before = tables.wishes.get(key)
    if before is None or wish.action == "cancel" or before.action != "cancel":
        tables.wishes[key] = wish


def _standing(row: JobRow, tx: Transaction) -> Standing:
    return Standing(
        tenant=row.tenant,
        id=row.id,
        kind=row.kind,
        state=State(row.state),
        attempt=row.attempt,
        epoch=row.epoch,
        worker_id=row.worker_id,
        traceparent=row.traceparent,
        request_sha256=row.request_sha256,
        queued_at=row.queued_at,
        deadline=row.deadline,
        is_delayed=row.available_at > tx.now,
        control=row.control,
    )
