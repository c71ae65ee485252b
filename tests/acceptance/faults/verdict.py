"""Whether a run kept the promises: pure functions from evidence to violations."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import Final

from schemas.events import FINAL_STATES, State
from tests.acceptance.faults.bodies import FIRST
from tests.acceptance.faults.evidence import LEAVE, Evidence, Key, StatusRecord
from tests.acceptance.faults.interruptions import all_windows, unexplained, wished
from tests.acceptance.faults.load import Flavour, Operation, Outcome
from tests.acceptance.faults.wanting import Action


class Broken(StrEnum):
    """Which promise does not hold."""

    #: An acknowledged request without a terminal state, or without its dead letter.
    LOST = "lost"
    #: A job that nobody can have submitted.
    INVENTED = "invented"
    #: Two terminal events with different contents.
    DUPLICATE = "duplicate"
    #: Topic and table, or table and table, say different things; or a conflict changed the first.
    CONFLICTING = "conflicting"
    #: A terminal state that no ``read_committed`` reader was told of.
    UNSEEN = "unseen"
    #: More than one copy for ``read_committed`` readers.
    REPEATED = "repeated"
    #: Attempt, epoch or state going back.
    NON_MONOTONIC = "non-monotonic"
    #: A second execution without a fault that explains it.
    REEXECUTED = "re-executed"
    #: A write under a lease that was lost.
    STALE = "stale"
    #: Another end than the request asked for.
    UNJUST = "unjust"
    #: A job that goes on although its client has cancelled it, or that begins.
    UNHEEDED = "unheeded"
    #: A dead letter of something that was no bad request.
    MISPLACED = "misplaced"


@dataclass(frozen=True)
class Violation:
    """One promise broken for one job or operation."""

    broken: Broken
    subject: str
    detail: str = ""


ATTEMPTS: Final = 3
#: How long a job may go on after Kafka has taken the wish to cancel it, while nothing is wrong, or was just before.
HEED_S: Final = 2.0
CALM_S: Final = 8.0
#: Why each flavour is refused; ``null`` is JSON, but no request.
REFUSED: Final[Mapping[Flavour, tuple[str, ...]]] = {
    Flavour.UNREADABLE: ("malformed_request", "invalid_request"),
    Flavour.TOMBSTONE: ("malformed_request",),
    Flavour.INVALID: ("invalid_request",),
    Flavour.GIANT: ("request_too_large",),
    Flavour.CONFLICT: ("id_conflict",),
}
_RANK: Final = {
    State.QUEUED: 0,
    State.SCHEDULED: 1,
    State.LOADING: 2,
    State.RUNNING: 3,
    **dict.fromkeys(FINAL_STATES, 4),
}


def judge(evidence: Evidence) -> list[Violation]:
    """Every promise that does not hold."""
    checks: tuple[Callable[[Evidence], Iterator[Violation]], ...] = (
        lost, invented, duplicate, conflicting, unseen, repeated, non_monotonic, reexecuted, stale, unjust, unheeded,
        misplaced,
    )  # fmt: skip
    return [violation for check in checks for violation in check(evidence)]


def lost(evidence: Evidence) -> Iterator[Violation]:
    """Acknowledged requests that have not come to an end, and refused ones without their dead letter."""
    for key, operations in submitted(evidence).items():
        job = evidence.jobs.get(key)
        if job is None:
            if any(evidence.outcomes[operation.number] is Outcome.OK for operation in operations):
                yield Violation(Broken.LOST, _name(key), "no row")
        elif job.state not in FINAL_STATES or job.result_status is None:
            yield Violation(Broken.LOST, _name(key), f"{job.state} in attempt {job.attempt}")
    answered = {letter.operation for letter in evidence.letters}
    for operation in evidence.operations:
        bad = operation.flavour in REFUSED and evidence.outcomes[operation.number] is Outcome.OK
        if bad and operation.number not in answered:
            yield Violation(Broken.LOST, f"operation {operation.number}", f"{operation.flavour} without a dead letter")


def invented(evidence: Evidence) -> Iterator[Violation]:
    """Jobs that come from no request which may be in the log."""
    possible = {
        (operation.tenant, operation.job_id)
        for operation in evidence.operations
        if evidence.outcomes[operation.number] is not Outcome.FAILED
    }
    for key in evidence.jobs.keys() - possible:
        yield Violation(Broken.INVENTED, _name(key))


def duplicate(evidence: Evidence) -> Iterator[Violation]:
    """Jobs with terminal events that differ, for any reader; a copy has the same bytes."""
    contents = defaultdict(set)
    for terminal in evidence.uncommitted:
        contents[terminal.key].add((terminal.event_id, terminal.value))
    for key, values in contents.items():
        if len(values) > 1:
            yield Violation(Broken.DUPLICATE, _name(key), f"{len(values)} different terminal events")


def conflicting(evidence: Evidence) -> Iterator[Violation]:
    """Tables and topics that contradict each other, and jobs that another body has changed."""
    for terminal in evidence.uncommitted:
        job = evidence.jobs.get(terminal.key)
        if job is None or job.result != terminal.value:
            yield Violation(Broken.CONFLICTING, _name(terminal.key), "the event is not what Postgres has")
    for key, job in evidence.jobs.items():
        expected = {"rejected": "failed"}.get(job.state, job.state)
        if job.result_status is not None and job.result_status != expected:
            yield Violation(Broken.CONFLICTING, _name(key), f"state {job.state}, result {job.result_status}")
        if job.state == State.SUCCEEDED and job.usage_rows != 1:
            yield Violation(Broken.CONFLICTING, _name(key), f"billed {job.usage_rows} times")
    acknowledged = _firsts(evidence)
    for terminal in evidence.committed:
        if terminal.key in acknowledged and terminal.text and not terminal.text.startswith(f"{FIRST}:"):
            yield Violation(Broken.CONFLICTING, _name(terminal.key), f"ran the conflict: {terminal.text}")


def unseen(evidence: Evidence) -> Iterator[Violation]:
    """Ends that nobody was told of, or that wait to be told."""
    seen = {terminal.key for terminal in evidence.committed}
    written = {terminal.key for terminal in evidence.uncommitted}
    for key, job in evidence.jobs.items():
        if job.result_status is not None and key not in seen:
            place = "in the outbox" if job.in_outbox else "not in the outbox"
            copies = "with a copy that was not committed" if key in written else "without a copy in the topic"
            yield Violation(Broken.UNSEEN, _name(key), f"{place}, {copies}")
        elif job.in_outbox:
            yield Violation(Broken.UNSEEN, _name(key), "still in the outbox, though it was published")


def repeated(evidence: Evidence) -> Iterator[Violation]:
    """Terminal events that a ``read_committed`` reader gets more than once."""
    for event_id, copies in Counter(terminal.event_id for terminal in evidence.committed).items():
        if copies > 1:
            yield Violation(Broken.REPEATED, event_id, f"{copies} copies")


def non_monotonic(evidence: Evidence) -> Iterator[Violation]:
    """Jobs of which the tables took something back, or which one worker says are where they were before."""
    for key, regression in evidence.regressions:
        yield Violation(Broken.NON_MONOTONIC, _name(key), regression)
    paused = wished(evidence, Action.PAUSE)
    by_writer: dict[tuple[Key, str], list[StatusRecord]] = defaultdict(list)
    for record in evidence.statuses:
        if record.worker:
            by_writer[record.key, record.worker].append(record)
    for (key, worker), records in by_writer.items():
        for before, after in pairwise(records):
            same = after.attempt == before.attempt
            given_back = same and (key in paused or _leaves(evidence, worker))
            if _place(after) < _place(before) and not given_back:
                yield Violation(Broken.NON_MONOTONIC, _name(key), f"{worker}: {_said(before)}, then {_said(after)}")


def _leaves(evidence: Evidence, worker_id: str) -> bool:
    return any(
        window.fault == LEAVE and worker_id.startswith(f"{name}-")
        for window in evidence.windows
        for name in window.workers
    )


def disorders(evidence: Evidence) -> Iterator[str]:
    """Jobs whose end is not the last that the status topic says of them.

    Counted, but no broken promise: the topic has several writers without an order among them, of which one may
    have been frozen since it wrote. A job's end is told by the results topic, and known to Postgres.
    """
    last = {record.key: record for record in evidence.statuses}
    for key, record in last.items():
        job = evidence.jobs.get(key)
        if job and job.result_status is not None and record.state not in FINAL_STATES:
            yield f"{_name(key)}: {job.state}, but the topic ends with {_said(record)}"


def reexecuted(evidence: Evidence) -> Iterator[Violation]:
    """Executions after the first which no fault explains: none struck a worker of theirs while they were in flight."""
    for before, after in unexplained(evidence):
        yield Violation(
            Broken.REEXECUTED,
            _name((after.tenant, after.job_id)),
            f"{before.worker} from {before.begun_s:.2f}, {after.worker} from {after.begun_s:.2f}, "
            f"attempts {before.attempt} and {after.attempt}",
        )


def stale(evidence: Evidence) -> Iterator[Violation]:
    """Results of an attempt that had lost its lease to a later one."""
    for terminal in evidence.committed:
        job = evidence.jobs.get(terminal.key)
        if job and terminal.attempt != job.attempt:
            yield Violation(Broken.STALE, _name(terminal.key), f"of attempt {terminal.attempt}, not {job.attempt}")


def unjust(evidence: Evidence) -> Iterator[Violation]:
    """Jobs that ended in another way than their request deserved."""
    windows, cancelled = all_windows(evidence), wished(evidence, Action.CANCEL)
    for key, operations in submitted(evidence).items():
        job = evidence.jobs.get(key)
        if job is None or job.result_status is None:
            continue
        wanted = {_deserved(operation) for operation in operations}
        if key in cancelled:
            wanted.add((State.CANCELLED, "cancelled"))
        poisoned = (State.FAILED, "poison_job")
        # So many faults can cost a job all its attempts, if each of them struck its worker.
        if len(windows) >= ATTEMPTS:
            wanted.add(poisoned)
        if (State(job.state), job.error_code) not in wanted:
            yield Violation(Broken.UNJUST, _name(key), f"{job.state} ({job.error_code})")


def unheeded(evidence: Evidence) -> Iterator[Violation]:
    """Executions that went on, to their end even, or began long after their job was cancelled in calm times."""
    taken_s = {
        wish.key: wish.taken_s
        for wish in reversed(evidence.wishes)
        if wish.action is Action.CANCEL and wish.taken_s is not None
    }
    for execution in evidence.executions:
        at_s = taken_s.get((execution.tenant, execution.job_id))
        last_s = max(execution.begun_s, execution.ended_s or 0.0)
        if at_s is None or last_s <= at_s + HEED_S:
            continue
        if not any(window.begin_s <= last_s and window.end_s >= at_s - CALM_S for window in evidence.windows):
            detail = f"{last_s - at_s:.1f} s after it was cancelled, at {execution.worker}"
            yield Violation(Broken.UNHEEDED, _name((execution.tenant, execution.job_id)), detail)


def misplaced(evidence: Evidence) -> Iterator[Violation]:
    """Dead letters of good requests, or with another reason, or two of one record."""
    by_number = {operation.number: operation for operation in evidence.operations}
    for letter in evidence.letters:
        operation = by_number.get(letter.operation) if letter.operation is not None else None
        if operation is None:
            continue
        if letter.error_code not in REFUSED.get(operation.flavour, ()):
            yield Violation(Broken.MISPLACED, f"operation {operation.number}", f"{operation.flavour}: {letter}")


def submitted(evidence: Evidence) -> Mapping[Key, list[Operation]]:
    """The operations of each job that would come to a row, were they read."""
    found: dict[Key, list[Operation]] = defaultdict(list)
    for operation in evidence.operations:
        if operation.job_id and operation.flavour is not Flavour.TOO_GIANT:
            found[operation.tenant, operation.job_id].append(operation)
    return found


def _deserved(operation: Operation) -> tuple[State, str | None]:
    match operation.flavour:
        case Flavour.LATE:
            return State.EXPIRED, "expired"
        case Flavour.INVALID | Flavour.GIANT:
            return State.REJECTED, REFUSED[operation.flavour][0]
        case Flavour.POISON:
            return State.FAILED, "poison_job"
        case _:
            return State.SUCCEEDED, None


def _firsts(evidence: Evidence) -> set[Key]:
    """Jobs whose first body was acknowledged before any conflict was sent, as ``Load`` does it."""
    return {
        (operation.tenant, operation.job_id)
        for operation in evidence.operations
        if operation.flavour is Flavour.NEW and evidence.outcomes[operation.number] is Outcome.OK
    }


def _place(record: StatusRecord) -> tuple[int, int]:
    return record.attempt, _RANK.get(State(record.state), _RANK[State.RUNNING])


def _said(record: StatusRecord) -> str:
    return f"{record.state}/{record.attempt} by {record.worker or 'a dispatcher'}"


def _name(key: Key) -> str:
    return "/".join(key)
