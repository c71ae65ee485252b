"""What is printed of a run: a line of JSON."""

from typing import Literal

import msgspec


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
