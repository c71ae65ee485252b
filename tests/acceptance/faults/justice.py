"""Whether each request came to the end that it deserved."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Final

from schemas.events import State
from tests.acceptance.faults.evidence import Evidence, Key
from tests.acceptance.faults.interruptions import may_be_poison, wished
from tests.acceptance.faults.load import Flavour, Operation
from tests.acceptance.faults.promises import Broken, Violation, name
from tests.acceptance.faults.wanting import Action

#: Why each flavour is refused; ``null`` is JSON, but no request.
REFUSED: Final[Mapping[Flavour, tuple[str, ...]]] = {
    Flavour.UNREADABLE: ("malformed_request", "invalid_request"),
    Flavour.TOMBSTONE: ("malformed_request",),
    Flavour.INVALID: ("invalid_request",),
    Flavour.GIANT: ("request_too_large",),
    Flavour.CONFLICT: ("id_conflict",),
}
#: How a job ends that has lost every worker.
POISONED: Final = (State.FAILED, "poison_job")


def unjust(evidence: Evidence) -> Iterator[Violation]:
    """Jobs that ended in another way than their request deserved."""
    cancelled = wished(evidence, Action.CANCEL)
    for key, operations in submitted(evidence).items():
        job = evidence.jobs.get(key)
        if job is None or job.result_status is None:
            continue
        wanted = {_deserved(operation) for operation in operations}
        if key in cancelled:
            wanted.add((State.CANCELLED, "cancelled"))
        end = (State(job.state), job.error_code)
        # Innocent or not, it takes as many lost workers.
        just = may_be_poison(evidence, key) if end == POISONED else end in wanted
        if not just:
            yield Violation(Broken.UNJUST, name(key), f"{job.state} ({job.error_code}) in attempt {job.attempt}")


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
            return POISONED
        case _:
            return State.SUCCEEDED, None
