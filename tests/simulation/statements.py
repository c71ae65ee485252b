"""The statements of ``runtime.database`` on the model's rows: the same meaning, one transaction at a time.

``tests/integration/database/test_model.py`` proves it against Postgres.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

from runtime.database import admissions, clock, jobs, outbox, outcomes, queue, quotas, reconciling, workers
from runtime.database.admissions import RANK, Admission, Admitted, Key, is_ours, needed_model, reread
from runtime.database.jobs import QueuedJob, Unconfirmed
from runtime.database.leased import LeasedJob
from runtime.database.outbox import Batch, Position, Waiting, result_id
from runtime.database.outcomes import ExpiredLease, Settlement
from runtime.database.queue import Mark, Page
from runtime.database.workers import NoFreePartition
from schemas.codec import encode
from schemas.events import ControlEvent, Lease, State
from schemas.limits import WORKER_PARTITIONS
from schemas.requests import Job, Priority
from schemas.results import ResultEvent
from schemas.topics import Kind
from tests.simulation.tables import JobRow, OutboxRow, ResultRow, Tables, Transaction, WorkerRow

Statement = Callable[..., Any]
Reader = TypeVar("Reader", bound=Statement)
#: Those that change nothing.
READERS: Final[set[Statement]] = set()


def reader(statement: Reader) -> Reader:
    """Mark a statement that changes nothing."""
    READERS.add(statement)
    return statement


def admit(tables: Tables, tx: Transaction, rows: Sequence[Admission]) -> list[Admitted]:
    """As ``admissions.admit``."""
    return admit_and_lease(tables, tx, rows, {}, 0.0)[0]


def admit_and_lease(
    tables: Tables, tx: Transaction, rows: Sequence[Admission], workers: Mapping[Key, str], lease_s: float
) -> tuple[list[Admitted], list[LeasedJob]]:
    """As ``admissions.admit_and_lease``."""
    inserted = set()
    for row in rows:
        key = (row.tenant, row.id)
        if key not in tables.jobs:
            tables.jobs[key] = _job_row(row, _noted(tables.wishes.get(key)), tx)
            inserted.add(key)
            if key in workers and not row.rejection:
                _lease_row(tables.jobs[key], tx, workers[key], lease_s)
    fates, leased = [], []
    for row in rows:
        known = tables.jobs[row.tenant, row.id]
        if known.source == row.source:
            fates.append(Admitted.NEW if known.key in inserted else reread(row, State(known.state)))
            given = (State.SCHEDULED.value, 1, workers.get(known.key, ""))
            if is_ours(row, fates[-1], known) and (known.state, known.epoch, known.worker_id) == given:
                leased.append(_leased_job(known))
        else:
            same = known.request_sha256 == row.request_sha256
            fates.append(Admitted.REPEATED if same else Admitted.CONFLICT)
    for row, fate in zip(rows, fates, strict=True):
        if row.rejection and fate is Admitted.NEW:
            _end(tables, tx, tables.jobs[row.tenant, row.id], row.rejection)
    return fates, leased


def lease(
    tables: Tables, tx: Transaction, assignments: Sequence[tuple[QueuedJob, str]], lease_s: float
) -> list[LeasedJob]:
    """As ``jobs.lease``."""
    taken = []
    for queued_job, worker_id in assignments:
        row = tables.jobs.get((queued_job.tenant, queued_job.id))
        same = row and row.available_at <= tx.now and row.lost_attempts == queued_job.lost_attempts
        if row and same and _lease_row(row, tx, worker_id, lease_s):
            taken.append(_leased_job(row))
    return taken


@reader
def queued(tables: Tables, tx: Transaction, kind: Kind, after: Mark, most: int) -> Page:
    """As ``queue.queued``."""
    start = (after.available_at, after.tenant, after.id)
    waiting = [
        row
        for row in tables.jobs.values()
        if row.state == State.QUEUED.value and row.kind is kind and row.available_at <= tx.now and row.place > start
    ]
    waiting.sort(key=lambda row: row.place)
    page = [
        QueuedJob(
            tenant=row.tenant,
            id=row.id,
            kind=row.kind,
            priority=row.priority,
            model=row.model,
            queued_at=row.queued_at,
            traceparent=row.traceparent,
            attempt=row.attempt,
            cost=row.cost,
            lost_attempts=row.lost_attempts,
            waited_s=max((tx.now - row.queued_at).total_seconds(), 0.0),
        )
        for row in waiting[:most]
    ]
    if len(page) < most:
        return Page(page, Mark(tx.now), last=True)
    last = waiting[most - 1]
    return Page(page, Mark(last.available_at, last.tenant, last.id), last=False)


def renew(tables: Tables, tx: Transaction, leases: Sequence[Lease], lease_s: float) -> dict[Lease, ControlEvent | None]:
    """As ``jobs.renew``."""
    held: dict[Lease, ControlEvent | None] = {}
    for item in leases:
        row = holder(tables, item)
        if row:
            row.lease_expires_at = tx.now + timedelta(seconds=lease_s)
            row.state = State.RUNNING.value
            held[item] = row.control
    return held


@reader
def unconfirmed(tables: Tables, tx: Transaction, age_s: float, most: int, after: Key = jobs.FIRST) -> Unconfirmed:
    """As ``jobs.unconfirmed``."""
    partitions = {worker.worker_id: partition for partition, worker in tables.workers.items()}
    since = tx.now - timedelta(seconds=age_s)
    rows = [
        row
        for row in tables.jobs.values()
        if row.state == State.SCHEDULED.value
        and row.worker_id in partitions
        and row.lease_expires_at
        and row.lease_expires_at > tx.now
        and row.scheduled_at
        and row.scheduled_at < since
        and row.key > after
    ]
    page = sorted(rows, key=lambda row: row.key)[:most]
    leases = [(_leased_job(row), partitions[row.worker_id or ""]) for row in page]
    return Unconfirmed(leases, page[-1].key if len(page) == most else None)


def give_back(
    tables: Tables, tx: Transaction, leases: Sequence[Lease], state: State, delay_s: float = 0.0
) -> set[Lease]:
    """As ``jobs.give_back``."""
    held = set()
    for item in leases:
        row = holder(tables, item)
        if row:
            wish = row.control.action if row.control else None
            row.state = State.QUEUED.value if wish not in (None, "pause") else state.value
            if not (wish == "cancel" or state is State.QUEUED):
                row.control = None
            row.worker_id, row.lease_expires_at = None, None
            row.available_at = tx.now + timedelta(seconds=delay_s)
            held.add(item)
    return held


def vacate(tables: Tables, tx: Transaction, worker_ids: Sequence[str]) -> list[Key]:
    """As ``jobs.vacate``."""
    rows = [row for row in tables.jobs.values() if row.leased and row.worker_id in worker_ids]
    for row in rows:
        row.state, row.worker_id, row.lease_expires_at, row.available_at = State.QUEUED.value, None, None, tx.now
    return [row.key for row in rows]


def settle(tables: Tables, tx: Transaction, settlements: Sequence[Settlement]) -> set[Lease]:
    """As ``outcomes.settle``, without usage and adapters."""
    held = set()
    for item in settlements:
        row = holder(tables, item.lease)
        if row:
            _end(tables, tx, row, item.event)
            held.add(item.lease)
    return held


def reap(
    tables: Tables, tx: Transaction, decide: Callable[[ExpiredLease], ResultEvent | float], most: int
) -> list[tuple[ExpiredLease, ResultEvent | float]]:
    """As ``outcomes.reap``."""
    decided = [(item, decide(item)) for item in expired(tables, tx, most)]
    for item, decision in decided:
        row = tables.jobs[item.lease.tenant, item.lease.job_id]
        if isinstance(decision, ResultEvent):
            _end(tables, tx, row, decision)
        else:
            row.state, row.worker_id, row.lease_expires_at = State.QUEUED.value, None, None
            row.attempt += 1
            row.lost_attempts = lost(tables, row)
            row.reached = max(row.reached, tables.position(row.key))
            row.available_at = tx.now + timedelta(seconds=decision)
    return decided


def expired(tables: Tables, tx: Transaction, most: int) -> list[ExpiredLease]:
    """As ``outcomes.expired``."""
    dead = [
        (row.lease_expires_at, row)
        for row in tables.jobs.values()
        if row.leased and row.lease_expires_at and row.lease_expires_at < tx.now
    ]
    dead.sort(key=lambda item: item[0])
    return [
        ExpiredLease(lease_of(row), row.kind, row.attempt, row.traceparent, row.request_sha256, lost(tables, row))
        for _, row in dead[:most]
    ]


@reader
def waiting(tables: Tables, tx: Transaction, after: Position, most: int, _most_bytes: int) -> Batch:
    """As ``outbox.waiting``, for events of no size."""
    rows = sorted((row for row in tables.outbox.values() if row.position > after), key=lambda row: row.position)
    rows = rows[:most]
    settled = [row.position for row in rows if row.transaction < tx.oldest]
    return Batch(
        tuple(
            Waiting(row.position, row.traceparent, row.event, State(tables.jobs[row.tenant, row.job_id].state))
            for row in rows
        ),
        through=settled[-1] if settled else after,
    )


def published(tables: Tables, _tx: Transaction, rows: Sequence[Waiting]) -> None:
    """As ``outbox.published``."""
    for row in rows:
        tables.outbox.pop((row.position.tenant, row.position.job_id), None)


def landed(tables: Tables, _tx: Transaction, event_ids: Sequence[str]) -> None:
    """As ``outbox.landed``."""
    found = set(event_ids)
    for key, row in list(tables.outbox.items()):
        if result_id(row.position.tenant, row.position.job_id) in found:
            del tables.outbox[key]


def oldest(tables: Tables, tx: Transaction) -> datetime | None:
    """As ``outbox.oldest``, for rows that were all written now."""
    return tx.now if tables.outbox else None


@reader
def identity(_tables: Tables, _tx: Transaction) -> str:
    """As ``outbox.identity``."""
    return "model"


def renumber(tables: Tables, tx: Transaction) -> None:
    """As ``outbox.renumber``."""
    for key, row in list(tables.outbox.items()):
        tables.outbox[key] = replace(row, transaction=tx.number)


def claim_partition(tables: Tables, tx: Transaction, worker_id: str, _host: str, lease_s: float) -> int:
    """As ``workers.claim_partition``."""
    for partition in range(WORKER_PARTITIONS):
        row = tables.workers.get(partition)
        if row is None or row.lease_expires_at <= tx.now:
            tables.workers[partition] = WorkerRow(worker_id, tx.now + timedelta(seconds=lease_s))
            return partition
    raise NoFreePartition


def renew_worker(
    tables: Tables, tx: Transaction, partition: int, worker_id: str, leases: Sequence[Lease], lease_s: float
) -> dict[Lease, ControlEvent | None] | None:
    """As ``workers.renew_worker``."""
    row = tables.workers.get(partition)
    if row is None or row.worker_id != worker_id:
        return None
    row.lease_expires_at = tx.now + timedelta(seconds=lease_s)
    return renew(tables, tx, leases, lease_s)


def release_partition(tables: Tables, _tx: Transaction, partition: int, worker_id: str) -> None:
    """As ``workers.release_partition``."""
    row = tables.workers.get(partition)
    if row and row.worker_id == worker_id:
        del tables.workers[partition]


def holder(tables: Tables, item: Lease) -> JobRow | None:
    """The job's row, if this is its lease."""
    row = tables.jobs.get((item.tenant, item.job_id))
    return row if row and row.leased and row.epoch == item.epoch else None


def lost(tables: Tables, row: JobRow) -> int:
    """How many attempts in a row are lost with this one; one that got further is the first."""
    return 1 if tables.position(row.key) > row.reached else row.lost_attempts + 1


def lease_of(row: JobRow) -> Lease:
    """The lease that a leased row is under."""
    return Lease(row.tenant, row.id, row.epoch, row.worker_id or "")


def _noted(wish: ControlEvent | None) -> ControlEvent | None:
    return None if wish and wish.action == "resume" else wish


def _job_row(row: Admission, wish: ControlEvent | None, tx: Transaction) -> JobRow:
    request = row.request
    rejection = row.rejection
    return JobRow(
        tenant=row.tenant,
        id=row.id,
        kind=row.kind,
        state=row.state.value,
        priority=RANK[request.priority if request else Priority.NORMAL],
        model=needed_model(request) if request else "",
        request=request,
        request_sha256=row.request_sha256,
        traceparent=row.traceparent,
        source=row.source,
        deadline=request.deadline if request else None,
        submitted_at=row.submitted_at,
        queued_at=min(row.queued_at, tx.now),
        available_at=tx.now,
        cost=row.cost,
        control=wish,
        finished_at=row.queued_at if rejection else None,
        error_code=rejection.error.code if rejection and rejection.error else None,
    )


def _lease_row(row: JobRow, tx: Transaction, worker_id: str, lease_s: float) -> bool:
    if row.state != State.QUEUED.value or row.control or (row.deadline and row.deadline <= tx.now):
        return False
    row.state, row.worker_id, row.scheduled_at = State.SCHEDULED.value, worker_id, tx.now
    row.epoch += 1
    row.lease_expires_at = tx.now + timedelta(seconds=lease_s)
    return True


def _leased_job(row: JobRow) -> LeasedJob:
    assert row.request is not None
    assert row.scheduled_at is not None
    job = Job(
        id=row.id,
        tenant=row.tenant,
        request=row.request,
        attempt=row.attempt,
        submitted_at=row.submitted_at,
        queued_at=row.queued_at,
        traceparent=row.traceparent,
        request_sha256=row.request_sha256,
    )
    return LeasedJob(job, lease_of(row), row.scheduled_at)


def _end(tables: Tables, tx: Transaction, row: JobRow, event: ResultEvent) -> None:
    if row.leased:
        row.state, row.finished_at, row.lease_expires_at = event.status.value, event.finished_at, None
        row.error_code = event.error.code if event.error else None
    store_end(tables, tx, row, event)


def store_end(tables: Tables, tx: Transaction, row: JobRow, event: ResultEvent) -> None:
    """The rows of ``results`` and ``outbox``."""
    encoded = encode(event)
    tables.results[row.key] = ResultRow(event.status.value, row.attempt, encoded)
    tables.outbox[row.key] = OutboxRow(row.tenant, row.id, row.traceparent, encoded, tx.now, tx.number)


@reader
def compare(tables: Tables, _tx: Transaction, rows: Sequence[Admission]) -> list[Admitted | None]:
    """As ``reconciling.compare``."""
    return [_fate(tables.jobs.get((row.tenant, row.id)), row) for row in rows]


def _fate(known: JobRow | None, row: Admission) -> Admitted | None:
    if known is None:
        return None
    if known.source == row.source:
        return reread(row, State(known.state))
    return Admitted.REPEATED if known.request_sha256 == row.request_sha256 else Admitted.CONFLICT


@reader
def positions(tables: Tables, _tx: Transaction) -> dict[tuple[str, int], int]:
    """As ``reconciling.positions``."""
    return dict(tables.reconciled)


def save_positions(tables: Tables, _tx: Transaction, places: Mapping[tuple[str, int], int]) -> None:
    """As ``reconciling.save_positions``."""
    tables.reconciled.update(places)


@reader
def waiting_of_tenants(tables: Tables, _tx: Transaction) -> dict[str, int]:
    """As ``quotas.waiting``."""
    return dict(Counter(row.tenant for row in tables.jobs.values() if row.state == State.QUEUED.value))


@reader
def now(_tables: Tables, tx: Transaction) -> datetime:
    """As ``clock.clock``."""
    return tx.now


#: What the model has of ``runtime.database``, by the function that it stands for.
STATEMENTS: Final[dict[Callable[..., Any], Statement]] = {
    clock.clock: now,
    admissions.admit: admit,
    admissions.admit_and_lease: admit_and_lease,
    jobs.lease: lease,
    queue.queued: queued,
    jobs.unconfirmed: unconfirmed,
    jobs.renew: renew,
    jobs.give_back: give_back,
    jobs.vacate: vacate,
    outcomes.settle: settle,
    outcomes.reap: reap,
    outbox.waiting: waiting,
    outbox.published: published,
    outbox.landed: landed,
    outbox.oldest: oldest,
    outbox.identity: identity,
    outbox.renumber: renumber,
    quotas.waiting: waiting_of_tenants,
    reconciling.compare: compare,
    reconciling.positions: positions,
    reconciling.save_positions: save_positions,
    workers.claim_partition: claim_partition,
    workers.renew_worker: renew_worker,
    workers.release_partition: release_partition,
}
