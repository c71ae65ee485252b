"""What a transaction may do to the rows of jobs and results."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple

from runtime.database.outcomes import Settlement
from schemas.events import FINAL_STATES, Lease, State
from schemas.topics import Kind
from tests.simulation.clock import at
from tests.simulation.journal import Journal
from tests.simulation.loop import SimLoop
from tests.simulation.statements import READERS, Statement, vacate
from tests.simulation.tables import LEASED, CheckpointRow, JobRow, Key, ResultRow, Tables, Transaction

ATTEMPTS: Final = 3
FINAL: Final = frozenset(state.value for state in FINAL_STATES)


@dataclass(frozen=True)
class Loss:
    """An attempt that ended by its lease; ``position`` is how far the job's checkpoint was by then."""

    key: Key
    attempt: int
    worker_id: str
    leased_s: float
    position: int


class _Before(NamedTuple):
    state: str
    attempt: int
    epoch: int
    worker_id: str | None
    expires_at: datetime | None
    #: Attempts in a row that are lost if this one is.
    lost: int


class Transitions:
    """Runs the statements, and compares the rows before and after each."""

    def __init__(self, loop: SimLoop, journal: Journal, tables: Tables) -> None:
        self._loop = loop
        self._journal = journal
        self._tables = tables
        self.losses: list[Loss] = []
        #: When each lease began, and when it ended.
        self.began_s: dict[tuple[Key, int], float] = {}
        self.ended_s: dict[tuple[Key, int], float] = {}
        #: When a job's row changed last, other than by a renewal.
        self.moved_s: dict[Key, float] = {}
        #: When the wish to cancel a leased job was noted, and when a job that waited has ended.
        self.wished_s: dict[Key, float] = {}
        self.left_s: dict[Key, float] = {}
        #: The workers that ever had a lease on a job.
        self.holders: defaultdict[Key, set[str]] = defaultdict(set)
        #: When a job of each kind was given to a worker last.
        self.leased_s: dict[Kind, float] = dict.fromkeys(Kind, 0.0)
        #: When a last attempt gave the worker back that it had for itself.
        self.lone_s = 0.0

    def execute(self, statement: Statement, arguments: tuple[Any, ...], tables: Tables, tx: Transaction) -> Any:
        """Run a statement; the answer."""
        if statement in READERS:
            return statement(tables, tx, *arguments)
        before = {
            key: _Before(row.state, row.attempt, row.epoch, row.worker_id, row.lease_expires_at, _lost(tables, row))
            for key, row in tables.jobs.items()
        }
        results, checkpoints = dict(tables.results), dict(tables.checkpoints)
        answer = statement(tables, tx, *arguments)
        permits = {(lease.tenant, lease.job_id, lease.epoch) for lease in _leases(arguments)}
        if statement is vacate:
            # Those of a worker that does not go on: that it doesn't is looked at elsewhere.
            permits |= {(*key, was.epoch) for key, was in before.items() if was.worker_id in arguments[0]}
        for key, row in tables.jobs.items():
            was = before.get(key)
            if row.leased and row.control and row.control.action == "cancel":
                self.wished_s.setdefault(key, self._loop.time())
            if was is None:
                self._moved(row, "admitted")
                if row.state == State.EXPIRED.value and row.deadline and row.deadline > tx.now:
                    self._violate("deadline", row, f"it expired before {row.deadline}")
                was = _Before(State.QUEUED.value, 1, 0, None, None, 1)
                if row.epoch == 0:
                    continue
            if (was.state, was.attempt, was.epoch, was.expires_at) != (
                row.state,
                row.attempt,
                row.epoch,
                row.lease_expires_at,
            ):
                self._changed(was, row, (*key, was.epoch) in permits)
        self._check_results(results, tables)
        self._check_checkpoints(checkpoints, permits, tables)
        return answer

    def _changed(self, was: _Before, row: JobRow, permitted: bool) -> None:
        key = row.key
        if was.state in FINAL:
            self._violate("one end", row, f"was {was.state}, and became {row.state}")
        if row.attempt < was.attempt or row.epoch < was.epoch:
            self._violate("attempts", row, f"attempt {was.attempt} to {row.attempt}, epoch {was.epoch} to {row.epoch}")
        if row.epoch > was.epoch:
            if was.state != State.QUEUED.value or row.epoch != was.epoch + 1:
                self._violate("fence", row, f"was leased from state {was.state}, epoch {was.epoch}")
            self.began_s[key, row.epoch] = self.leased_s[row.kind] = self._loop.time()
            if row.control and row.control.action == "cancel":
                self._violate("cancel", row, "it was leased, and its client had cancelled it")
            if row.deadline and row.scheduled_at and row.deadline <= row.scheduled_at:
                self._violate("deadline", row, "it was leased after its deadline")
            self.holders[key].add(row.worker_id or "")
            self._moved(row, f"leased to {row.worker_id}")
        elif was.state in LEASED and row.state not in LEASED:
            self._lease_ended(was, row, permitted)
        elif was.state in LEASED and not permitted:
            self._violate("fence", row, "a lease was changed by a stranger")
        elif was.state not in LEASED:
            if row.state in FINAL:
                self.left_s[key] = self._loop.time()
            self._moved(row, f"from {was.state} to {row.state}")

    def _lease_ended(self, was: _Before, row: JobRow, permitted: bool) -> None:
        key = row.key
        self.ended_s[key, was.epoch] = self._loop.time()
        self._moved(row, f"from {was.state} to {row.state}")
        grown = row.attempt - was.attempt
        if row.lost_attempts >= ATTEMPTS - 1:
            self.lone_s = self._loop.time()
        overdue = was.expires_at is not None and was.expires_at < at(self._loop.time())
        if not permitted and not overdue:
            self._violate("live lease", row, f"the lease of {was.worker_id} was taken away before its end")
        if (
            grown > 1
            or (row.state in FINAL and grown)
            or (row.state == State.QUEUED.value and not permitted and not grown)
        ):
            self._violate("attempts", row, f"a lost lease took the attempt from {was.attempt} to {row.attempt}")
        if grown == 1 and row.lost_attempts != was.lost:
            self._violate("attempts", row, f"{row.lost_attempts} attempts in a row count as lost, for {was.lost}")
        if not permitted:
            began_s, position = self.began_s.get((key, was.epoch), 0.0), self._tables.position(key)
            self.losses.append(Loss(key, was.attempt, was.worker_id or "", began_s, position))
            if row.state in FINAL and was.attempt < ATTEMPTS:
                self._violate("attempts", row, f"it was given up after attempt {was.attempt}")

    def _check_results(self, before: dict[Key, ResultRow], tables: Tables) -> None:
        for key, result in before.items():
            if tables.results.get(key) != result:
                self._journal.violate("one end", f"the result of {'/'.join(key)} changed after it was written")
        for key, row in tables.jobs.items():
            if (row.state in FINAL) != (key in tables.results):
                self._violate("one end", row, f"its state is {row.state}, its result {tables.results.get(key)}")
            if key in tables.results and key not in before and key not in tables.outbox:
                self._violate("announced", row, "the result was written without an outbox row")

    def _check_checkpoints(
        self, before: dict[Key, CheckpointRow], permits: set[tuple[str, str, int]], tables: Tables
    ) -> None:
        for key, was in before.items():
            row, now = tables.jobs[key], tables.checkpoints.get(key)
            if now is None and row.state not in FINAL:
                self._violate("resumes", row, "its checkpoint is gone, and it has not ended")
            elif now and now.checkpoint.position < was.checkpoint.position:
                self._violate("resumes", row, f"its checkpoint went back to step {now.checkpoint.position}")
        for key, now in tables.checkpoints.items():
            row = tables.jobs[key]
            if now is not before.get(key) and not (row.leased and (*key, row.epoch) in permits):
                self._violate("fence", row, "a stranger has written its checkpoint")

    def _moved(self, row: JobRow, how: str) -> None:
        self.moved_s[row.key] = self._loop.time()
        self._journal.note(f"{row.tenant}/{row.id} {how}, attempt {row.attempt}, epoch {row.epoch}")

    def _violate(self, invariant: str, row: JobRow, text: str) -> None:
        self._journal.violate(invariant, f"job {row.tenant}/{row.id}: {text}")


def _lost(tables: Tables, row: JobRow) -> int:
    """How many attempts in a row are lost, if this one is; one that got further is the first."""
    return 1 if tables.position(row.key) > row.reached else row.lost_attempts + 1


def is_final(row: JobRow) -> bool:
    """Whether the job has ended."""
    return row.state in FINAL


def _leases(value: object) -> Iterable[Lease]:
    """The leases among a statement's arguments: what it may write under."""
    match value:
        case Lease():
            yield value
        case Settlement(lease, _):
            yield lease
        case tuple() | list():
            for item in value:
                yield from _leases(item)
        case _:
            return
