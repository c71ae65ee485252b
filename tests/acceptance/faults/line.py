"""What is printed of a run: a line of JSON."""

from collections import Counter
from typing import Final, Literal

import msgspec

from schemas.events import State
from tests.acceptance.faults import interruptions, verdict
from tests.acceptance.faults.evidence import PAUSE, Evidence
from tests.acceptance.faults.promises import Broken, Violation
from tests.acceptance.faults.schedule import Schedule

#: Violations that a line shows in words.
SHOWN: Final = 20


class StrikeLine(msgspec.Struct, frozen=True):
    """A fault of the run, as its line shows it."""

    at_s: float
    fault: str
    target: str
    for_s: float


class RunLine(msgspec.Struct, frozen=True, kw_only=True):
    """What is printed of a run."""

    seed: int
    #: The planted bug, if there was one.
    bug: str = ""
    verdict: Literal["held", "broken"]
    faults: tuple[StrikeLine, ...]
    #: Records submitted, by what the client was told.
    operations: dict[str, int]
    jobs: int
    executions: int
    #: Executions after a job's first, and those in flight when a fault struck their worker.
    reexecuted: int
    in_flight: int
    #: Clients' wishes that Kafka took, by action; and the jobs that ended as cancelled.
    wishes: dict[str, int]
    cancelled: int
    poisoned: int
    #: Attempts of all jobs beyond their first.
    attempts_lost: int
    #: Jobs of which the status topic's last word is not their end.
    disorders: int
    #: Ends of processes that no fault had asked for.
    restarts: dict[str, int]
    #: Times when the machine itself gave nobody the processor.
    pauses: int
    #: Points of a crash that the process did not come by while the fault lasted.
    unreached: tuple[str, ...]
    #: How often each promise was broken.
    broken: dict[str, int]
    violations: tuple[str, ...]
    drained_s: float
    seconds: float


def told(schedule: Schedule, evidence: Evidence, drained_s: float, seconds: float) -> RunLine:
    """The line of a run, with the verdict on it."""
    violations = verdict.judge(evidence)
    reexecuted, in_flight = sum(1 for _ in interruptions.repeats(evidence)), interruptions.in_flight(evidence)
    return RunLine(
        seed=schedule.seed,
        verdict="broken" if violations else "held",
        faults=tuple(
            StrikeLine(strike.at_s, strike.fault.value, strike.target, strike.for_s) for strike in schedule.strikes
        ),
        operations=dict(Counter(outcome.value for outcome in evidence.outcomes.values())),
        jobs=len(evidence.jobs),
        executions=len(evidence.executions),
        reexecuted=reexecuted,
        in_flight=in_flight,
        disorders=sum(1 for _ in verdict.disorders(evidence)),
        wishes=dict(Counter(wish.action.value for wish in evidence.wishes if wish.taken_s is not None)),
        cancelled=sum(job.state == State.CANCELLED for job in evidence.jobs.values()),
        poisoned=sum(job.error_code == "poison_job" for job in evidence.jobs.values()),
        attempts_lost=sum(job.attempt - 1 for job in evidence.jobs.values()),
        restarts=dict(Counter(end.name for end in evidence.ends)),
        pauses=sum(window.fault == PAUSE for window in evidence.windows),
        unreached=tuple(f"{point.target}: {point.point}" for point in evidence.unreached),
        broken={broken.value: 0 for broken in Broken}
        | {broken.value: count for broken, count in Counter(item.broken for item in violations).items()},
        violations=tuple(shown(violation) for violation in violations[:SHOWN]),
        drained_s=round(drained_s, 1),
        seconds=round(seconds, 1),
    )


def shown(violation: Violation) -> str:
    """A violation in words."""
    return f"{violation.broken}: {violation.subject}: {violation.detail}"
