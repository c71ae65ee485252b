"""Whether the faults took effect, and whether our processes ended by anything else."""

from collections.abc import Iterator
from typing import Final

from schemas.events import State
from tests.acceptance.faults.crashes import Point
from tests.acceptance.faults.evidence import Evidence, Key, Unreached
from tests.acceptance.faults.justice import submitted
from tests.acceptance.faults.promises import Broken, Violation, name
from tests.acceptance.faults.schedule import ALL_DISPATCHERS, Fault

#: What clients submit, and what Redis holds: no process may end by either. By a server that is away it may.
GENTLE: Final = frozenset({
    Fault.FLUSH_ALL, Fault.WRONG_BYTES, Fault.DUPLICATES, Fault.REORDERED, Fault.POISON, Fault.TOMBSTONES,
    Fault.GIANTS, Fault.GARBAGE,
})  # fmt: skip
#: How long after its end a fault may still end a process: requests that were lost with it are sent again until then.
ECHO_S: Final = 20.0
#: How the names of our processes begin.
OURS: Final = ("dispatcher-", "worker-")


def ineffective(evidence: Evidence) -> Iterator[Violation]:
    """Faults that were none: they could not be made, or a process came past the point at which it was to die."""
    for fault in evidence.impotent:
        yield Violation(Broken.NO_EFFECT, fault, "it could not be made")
    for unreached in evidence.unreached:
        for key in _passing(evidence, unreached):
            place = f"{unreached.target}: {unreached.point}"
            yield Violation(Broken.NO_EFFECT, place, f"{name(key)} came past it, and nobody died")
            break


def crashed(evidence: Evidence) -> Iterator[Violation]:
    """Processes of ours that ended by themselves, while no fault explains that, nor one that was over just before."""
    for end in evidence.ends:
        explained = any(
            window.fault not in GENTLE and window.begin_s <= end.at_s <= window.end_s + ECHO_S
            for window in (*evidence.windows_before, *evidence.windows)
        )
        if end.name.startswith(OURS) and not explained:
            yield Violation(Broken.CRASHED, end.name, f"ended by itself with {end.code}")


def _passing(evidence: Evidence, unreached: Unreached) -> Iterator[Key]:
    """Jobs that went all their way from the client to an empty outbox while the point was set."""
    if unreached.point == Point.OFFSETS:
        # They are committed by the clock, not with a job.
        return
    for key, operations in submitted(evidence).items():
        job, settled_s = evidence.jobs.get(key), evidence.settled_s.get(key)
        if job is None or job.state != State.SUCCEEDED or settled_s is None or settled_s > unreached.end_s:
            continue
        sent_s = min(operation.sent_s for operation in operations)
        if sent_s >= unreached.begin_s and unreached.target in (ALL_DISPATCHERS, *_places(evidence, key)):
            yield key


def _places(evidence: Evidence, key: Key) -> set[str]:
    """The worker of a job that ran at one alone."""
    places = {run.worker for run in evidence.executions if (run.tenant, run.job_id) == key}
    return places if len(places) == 1 else set()
