"""Statements, a producer and a result log, each with one thing wrong."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from runtime.database.admissions import Admission, Admitted, Key
from runtime.database.checkpoints import Checkpoint
from runtime.database.jobs import QueuedJob
from runtime.database.leased import LeasedJob
from runtime.database.outbox import Batch, Position
from runtime.database.outcomes import ExpiredLease, Settlement
from runtime.database.queue import Mark, Page
from runtime.kafka import Delivery, OnDelivery
from runtime.kafka_transactions import Outgoing
from schemas.events import ControlEvent, Lease, State
from schemas.results import ResultEvent
from schemas.topics import Kind
from tests.simulation import statements
from tests.simulation.kafka import Headers, SimPublisher, SimResultLog
from tests.simulation.processes import LEASE_S
from tests.simulation.statements import lease_of
from tests.simulation.tables import CheckpointRow, Tables, Transaction, WorkerRow

#: How far the wall clock is ahead of Postgres' that decides on leases.
AHEAD_S = 4.0
Decide = Callable[[ExpiredLease], ResultEvent | float]
Decided = list[tuple[ExpiredLease, ResultEvent | float]]


def admit_by_id_alone(
    tables: Tables, tx: Transaction, rows: Sequence[Admission], workers: Mapping[Key, str], lease_s: float
) -> tuple[list[Admitted], list[LeasedJob]]:
    """Takes another tenant's job of the same id for a repeat."""
    known = {row.id: row.tenant for row in tables.jobs.values()}
    fates: list[Admitted] = []
    leased: list[LeasedJob] = []
    for row in rows:
        if known.setdefault(row.id, row.tenant) != row.tenant:
            fates.append(Admitted.REPEATED)
        else:
            fate, taken = statements.admit_and_lease(tables, tx, [row], workers, lease_s)
            fates.extend(fate)
            leased.extend(taken)
    return fates, leased


def admit_over_the_first(
    tables: Tables, tx: Transaction, rows: Sequence[Admission], workers: Mapping[Key, str], lease_s: float
) -> tuple[list[Admitted], list[LeasedJob]]:
    """Puts the last request in the place of the first."""
    fates, leased = statements.admit_and_lease(tables, tx, rows, workers, lease_s)
    for number, (row, fate) in enumerate(zip(rows, fates, strict=True)):
        if fate is Admitted.CONFLICT:
            first = tables.jobs[row.tenant, row.id]
            first.request, first.request_sha256, first.source = row.request, row.request_sha256, row.source
            fates[number] = Admitted.REPEATED
    return fates, leased


def lease_any_state(
    tables: Tables, tx: Transaction, assignments: Sequence[tuple[QueuedJob, str]], lease_s: float
) -> list[LeasedJob]:
    """Takes jobs from the workers that have them."""
    for job, _ in assignments:
        row = tables.jobs.get((job.tenant, job.id))
        if row and row.leased:
            row.state = State.QUEUED.value
    return statements.lease(tables, tx, assignments, lease_s)


def find_nothing(_tables: Tables, tx: Transaction, _kind: Kind, _after: Mark, _most: int) -> Page:
    """Knows of no job."""
    return Page([], Mark(tx.now), last=True)


def settle_unfenced(tables: Tables, tx: Transaction, settlements: Sequence[Settlement]) -> set[Lease]:
    """Lets a stale attempt end the job of another."""
    held = set()
    for item in settlements:
        row = tables.jobs.get((item.lease.tenant, item.lease.job_id))
        if row and row.leased and statements.settle(tables, tx, [Settlement(lease_of(row), item.event)]):
            held.add(item.lease)
    return held


def settle_without_outbox(tables: Tables, tx: Transaction, settlements: Sequence[Settlement]) -> set[Lease]:
    """Tells nobody."""
    held = statements.settle(tables, tx, settlements)
    for lease in held:
        tables.outbox.pop((lease.tenant, lease.job_id), None)
    return held


def renew_unfenced(
    tables: Tables, tx: Transaction, partition: int, worker_id: str, leases: Sequence[Lease], lease_s: float
) -> dict[Lease, ControlEvent | None] | None:
    """Extends whatever lease the jobs are under."""
    if statements.renew_worker(tables, tx, partition, worker_id, [], lease_s) is None:
        return None
    held: dict[Lease, ControlEvent | None] = {}
    for lease in leases:
        row = tables.jobs.get((lease.tenant, lease.job_id))
        if row and row.leased and statements.renew(tables, tx, [lease_of(row)], lease_s):
            held[lease] = None
    return held


def renew_partition_alone(
    tables: Tables, tx: Transaction, partition: int, worker_id: str, leases: Sequence[Lease], lease_s: float
) -> dict[Lease, ControlEvent | None] | None:
    """Says that the jobs' leases were extended."""
    held = statements.renew_worker(tables, tx, partition, worker_id, [], lease_s)
    return None if held is None else dict.fromkeys(leases)


def renew_without_wishes(
    tables: Tables, tx: Transaction, partition: int, worker_id: str, leases: Sequence[Lease], lease_s: float
) -> dict[Lease, ControlEvent | None] | None:
    """Says nothing of what clients want."""
    held = statements.renew_worker(tables, tx, partition, worker_id, leases, lease_s)
    return None if held is None else dict.fromkeys(held)


def lease_cancelled(
    tables: Tables, tx: Transaction, assignments: Sequence[tuple[QueuedJob, str]], lease_s: float
) -> list[LeasedJob]:
    """Looks at the state alone."""
    wishes = {}
    for job, _ in assignments:
        if row := tables.jobs.get((job.tenant, job.id)):
            wishes[row.key], row.control = row.control, None
    taken = statements.lease(tables, tx, assignments, lease_s)
    for key, wish in wishes.items():
        tables.jobs[key].control = wish
    return taken


def another_clock(_tables: Tables, tx: Transaction) -> datetime:
    """What time it is by a clock that is ahead."""
    return tx.now + timedelta(seconds=AHEAD_S)


def lease_overdue(
    tables: Tables, tx: Transaction, assignments: Sequence[tuple[QueuedJob, str]], lease_s: float
) -> list[LeasedJob]:
    """Does not look at the deadline."""
    deadlines = {}
    for job, _ in assignments:
        if row := tables.jobs.get((job.tenant, job.id)):
            deadlines[row.key], row.deadline = row.deadline, None
    taken = statements.lease(tables, tx, assignments, lease_s)
    for key, deadline in deadlines.items():
        tables.jobs[key].deadline = deadline
    return taken


def save_unfenced(tables: Tables, tx: Transaction, lease: Lease, checkpoint: Checkpoint) -> bool:
    """Lets an attempt that has lost its lease write the checkpoint of the one after it."""
    row = tables.jobs[lease.tenant, lease.job_id]
    tables.checkpoints[row.key] = CheckpointRow(row.attempt, checkpoint, tx.now)
    return True


def find_no_checkpoint(_tables: Tables, _tx: Transaction, _tenant: str, _job_id: str) -> None:
    """Every attempt starts over."""


def find_what_is_kept_by_id(tables: Tables, _tx: Transaction, _tenant: str, job_id: str) -> Checkpoint | None:
    """Takes a checkpoint for the job's that has its id, of whatever tenant."""
    return next((row.checkpoint for key, row in tables.checkpoints.items() if key[1] == job_id), None)


def claim_held_partition(tables: Tables, tx: Transaction, worker_id: str, _host: str, lease_s: float) -> int:
    """Gives everybody the first partition."""
    tables.workers[0] = WorkerRow(worker_id, tx.now + timedelta(seconds=lease_s))
    return 0


def reap_by_another_clock(tables: Tables, tx: Transaction, decide: Decide, most: int) -> Decided:
    """Compares the leases with a clock that is ahead."""
    return statements.reap(tables, replace(tx, now=tx.now + timedelta(seconds=AHEAD_S)), decide, most)


def reap_renewed(tables: Tables, tx: Transaction, decide: Decide, most: int) -> Decided:
    """Ends every lease some time after it was taken, renewed or not."""
    for row in tables.jobs.values():
        if row.leased and row.scheduled_at:
            row.lease_expires_at = row.scheduled_at + timedelta(seconds=LEASE_S)
    return statements.reap(tables, tx, decide, most)


def reap_counting_twice(tables: Tables, tx: Transaction, decide: Decide, most: int) -> Decided:
    """One attempt more."""
    decided = statements.reap(tables, tx, decide, most)
    for item, _ in decided:
        tables.jobs[item.lease.tenant, item.lease.job_id].attempt += 1
    return decided


def reap_without_counting(tables: Tables, tx: Transaction, decide: Decide, most: int) -> Decided:
    """No attempt more."""
    decided = statements.reap(tables, tx, decide, most)
    for item, decision in decided:
        row = tables.jobs[item.lease.tenant, item.lease.job_id]
        if not isinstance(decision, ResultEvent):
            row.attempt, row.lost_attempts = item.attempt, 0
    return decided


def reap_for_ever(tables: Tables, tx: Transaction, decide: Decide, most: int) -> Decided:
    """Queues jobs for a day that does not come."""
    return statements.reap(tables, tx, lambda item: _long(decide(item)), most)


def wait_for_nobody(tables: Tables, tx: Transaction, after: Position, most: int, most_bytes: int) -> Batch:
    """Looks for more after rows whose place in the order is not settled."""
    return statements.waiting(tables, replace(tx, oldest=tx.number + 1_000_000), after, most, most_bytes)


def _long(decision: ResultEvent | float) -> ResultEvent | float:
    return decision if isinstance(decision, ResultEvent) else 1e7


class TrustsItsBuffer(SimPublisher):
    """Reports what it has not sent yet as delivered."""

    def publish_raw(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        headers: Headers,
        partition: int = -1,
        on_delivery: OnDelivery | None = None,
    ) -> None:
        if on_delivery and topic.endswith(".dlq"):
            on_delivery(Delivery(topic, 0, 0, None))
            on_delivery = None
        super().publish_raw(topic, key, value, headers, partition, on_delivery)


class MarksItsEnd(SimResultLog):
    """Commits with a batch where it ends, not where it begins."""

    def _mark(self) -> None:
        return

    def _add(self, records: Sequence[Outgoing]) -> None:
        super()._add(records)
        self._broker.mark = (self._source, self._now())


class NeverFenced(SimResultLog):
    """Takes no notice of a later owner."""

    def _check(self) -> None:
        return
