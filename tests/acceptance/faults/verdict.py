"""Whether a run kept the promises: pure functions from evidence to violations."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Final

from schemas.events import FINAL_STATES, State
from tests.acceptance.faults.bodies import FIRST
from tests.acceptance.faults.effects import crashed, ineffective
from tests.acceptance.faults.evidence import LEAVE, Evidence, Key, StatusRecord, Terminal
from tests.acceptance.faults.executions import Execution
from tests.acceptance.faults.interruptions import unexplained, wished
from tests.acceptance.faults.justice import REFUSED, misplaced, submitted, unjust
from tests.acceptance.faults.load import Flavour, Outcome
from tests.acceptance.faults.promises import Broken, Violation, name
from tests.acceptance.faults.wanting import Action

#: How long a job may go on after Kafka has taken the wish to cancel it, while nothing is wrong, or was just before.
HEED_S: Final = 2.0
CALM_S: Final = 8.0
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
        misplaced, crashed, ineffective,
    )  # fmt: skip
    return [violation for check in checks for violation in check(evidence)]


def lost(evidence: Evidence) -> Iterator[Violation]:
    """Acknowledged requests that have not come to an end, and refused ones without their dead letter."""
    for key, operations in submitted(evidence).items():
        job = evidence.jobs.get(key)
        if job is None:
            if any(evidence.outcomes[operation.number] is Outcome.OK for operation in operations):
                yield Violation(Broken.LOST, name(key), "no row")
        elif job.state not in FINAL_STATES or job.result_status is None:
            yield Violation(Broken.LOST, name(key), f"{job.state} in attempt {job.attempt}")
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
        yield Violation(Broken.INVENTED, name(key))


def duplicate(evidence: Evidence) -> Iterator[Violation]:
    """Jobs with terminal events that differ, for any reader; a copy has the same bytes."""
    contents = defaultdict(set)
    for terminal in evidence.uncommitted:
        contents[terminal.key].add((terminal.event_id, terminal.value))
    for key, values in contents.items():
        if len(values) > 1:
            yield Violation(Broken.DUPLICATE, name(key), f"{len(values)} different terminal events")


def conflicting(evidence: Evidence) -> Iterator[Violation]:
    """Tables and topics that contradict each other, and jobs that have another's body, or another's result."""
    for terminal in evidence.uncommitted:
        job = evidence.jobs.get(terminal.key)
        if job is None or job.result != terminal.value:
            yield Violation(Broken.CONFLICTING, name(terminal.key), "the event is not what Postgres has")
    for key, job in evidence.jobs.items():
        expected = {"rejected": "failed"}.get(job.state, job.state)
        if job.result_status is not None and job.result_status != expected:
            yield Violation(Broken.CONFLICTING, name(key), f"state {job.state}, result {job.result_status}")
        if job.state == State.SUCCEEDED and job.usage_rows != 1:
            yield Violation(Broken.CONFLICTING, name(key), f"billed {job.usage_rows} times")
    acknowledged = _firsts(evidence)
    for terminal in evidence.committed:
        if terminal.key in acknowledged and terminal.text and not terminal.text.startswith(f"{FIRST}:"):
            yield Violation(Broken.CONFLICTING, name(terminal.key), f"ran the conflict: {terminal.text}")
    for terminal, author in _authored(evidence):
        if author is None or (author.tenant, author.job_id) != terminal.key:
            whose = name((author.tenant, author.job_id)) if author else f"no execution: {terminal.text}"
            yield Violation(Broken.CONFLICTING, name(terminal.key), f"has the result of {whose}")


def unseen(evidence: Evidence) -> Iterator[Violation]:
    """Ends that nobody was told of, or that wait to be told."""
    seen = {terminal.key for terminal in evidence.committed}
    written = {terminal.key for terminal in evidence.uncommitted}
    for key, job in evidence.jobs.items():
        if job.result_status is not None and key not in seen:
            place = "in the outbox" if job.in_outbox else "not in the outbox"
            copies = "with a copy that was not committed" if key in written else "without a copy in the topic"
            yield Violation(Broken.UNSEEN, name(key), f"{place}, {copies}")
        elif job.in_outbox:
            yield Violation(Broken.UNSEEN, name(key), "still in the outbox, though it was published")


def repeated(evidence: Evidence) -> Iterator[Violation]:
    """Terminal events that a ``read_committed`` reader gets more than once."""
    for event_id, copies in Counter(terminal.event_id for terminal in evidence.committed).items():
        if copies > 1:
            yield Violation(Broken.REPEATED, event_id, f"{copies} copies")


def non_monotonic(evidence: Evidence) -> Iterator[Violation]:
    """Jobs of which the tables took something back, or which one worker says are where they were before."""
    for key, regression in evidence.regressions:
        yield Violation(Broken.NON_MONOTONIC, name(key), regression)
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
                yield Violation(Broken.NON_MONOTONIC, name(key), f"{worker}: {_said(before)}, then {_said(after)}")


def _leaves(evidence: Evidence, worker_id: str) -> bool:
    return any(
        window.fault == LEAVE and worker_id.startswith(f"{worker}-")
        for window in evidence.windows
        for worker in window.workers
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
            yield f"{name(key)}: {job.state}, but the topic ends with {_said(record)}"


def reexecuted(evidence: Evidence) -> Iterator[Violation]:
    """Executions after the first which no fault explains: none struck a worker of theirs while they were in flight."""
    for before, after in unexplained(evidence):
        yield Violation(
            Broken.REEXECUTED,
            name((after.tenant, after.job_id)),
            f"{before.worker} from {before.begun_s:.2f}, {after.worker} from {after.begun_s:.2f}, "
            f"attempts {before.attempt} and {after.attempt}",
        )


def stale(evidence: Evidence) -> Iterator[Violation]:
    """Results of an attempt that had lost its lease to a later one, or of an execution that had given it back."""
    for terminal in evidence.committed:
        job = evidence.jobs.get(terminal.key)
        if job and terminal.attempt != job.attempt:
            yield Violation(Broken.STALE, name(terminal.key), f"of attempt {terminal.attempt}, not {job.attempt}")
    for terminal, author in _authored(evidence):
        job = evidence.jobs.get(terminal.key)
        if job and author and (author.attempt, author.epoch) != (job.attempt, job.epoch):
            lease = f"{author.attempt} and epoch {author.epoch}, not {job.attempt} and {job.epoch}"
            yield Violation(Broken.STALE, name(terminal.key), f"was made in attempt {lease}")


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
            yield Violation(Broken.UNHEEDED, name((execution.tenant, execution.job_id)), detail)


def _authored(evidence: Evidence) -> Iterator[tuple[Terminal, Execution | None]]:
    """Each result that names the execution which made it, with that execution."""
    by_token = {execution.token: execution for execution in evidence.executions}
    for terminal in evidence.committed:
        if terminal.text:
            yield terminal, by_token.get(terminal.text.partition(":")[2])


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
