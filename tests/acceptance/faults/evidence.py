"""What there is to judge a run by: what was submitted and done, and what topics and tables say."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from tests.acceptance.faults.executions import Execution
from tests.acceptance.faults.load import Operation, Outcome
from tests.acceptance.faults.wanting import Wished

#: Tenant and id of a job.
Key = tuple[str, str]


@dataclass(frozen=True)
class JobRow:
    """A job in Postgres, with its result's row where it has one."""

    state: str
    attempt: int
    epoch: int
    result_status: str | None
    #: The stored event, as canonical JSON.
    result: str | None
    error_code: str | None
    usage_rows: int
    in_outbox: bool


@dataclass(frozen=True)
class Terminal:
    """One copy of a job's terminal event on the topic."""

    key: Key
    event_id: str
    #: Canonical JSON.
    value: str
    attempt: int
    #: What its result says of who made it: ``variant:token``; empty where it has none.
    text: str


@dataclass(frozen=True)
class StatusRecord:
    """One state of a job as the status topic has it."""

    key: Key
    attempt: int
    state: str
    #: The worker that said so; empty where it was a dispatcher.
    worker: str


@dataclass(frozen=True)
class Letter:
    """A dead letter: the operation that it was, where it lay, and why it was refused."""

    operation: int | None
    origin: tuple[str, int, int]
    error_code: str


#: The "fault" of a worker that was told to leave. It costs its jobs no attempt.
LEAVE: Final = "leave"
#: That of a machine which gave nobody the processor.
PAUSE: Final = "pause"


@dataclass(frozen=True)
class Window:
    """A time in which a fault may have cost jobs in flight their attempt, or a leave their place, on some workers."""

    begin_s: float
    end_s: float
    workers: frozenset[str]
    fault: str


@dataclass(frozen=True)
class Unreached:
    """A point of a crash that its target, a worker or ``dispatchers``, did not come by while it was set."""

    target: str
    point: str
    begin_s: float
    end_s: float


@dataclass(frozen=True)
class End:
    """A process that ended by itself, though no fault had killed it and nobody had told it to."""

    name: str
    at_s: float
    code: int


@dataclass(frozen=True)
class Evidence:
    """All of it, for the tenants of one run."""

    operations: tuple[Operation, ...]
    outcomes: Mapping[int, Outcome]
    jobs: Mapping[Key, JobRow]
    #: By when each job was seen to have ended, and to have left the outbox.
    settled_s: Mapping[Key, float]
    #: Of a ``read_committed`` reader, and of one that reads everything.
    committed: tuple[Terminal, ...]
    uncommitted: tuple[Terminal, ...]
    #: What the tables said of jobs one moment and took back the next.
    regressions: tuple[tuple[Key, str], ...]
    #: In the order of their partitions.
    statuses: tuple[StatusRecord, ...]
    letters: tuple[Letter, ...]
    executions: tuple[Execution, ...]
    wishes: tuple[Wished, ...]
    windows: tuple[Window, ...]
    #: Those of the run before.
    windows_before: tuple[Window, ...]
    unreached: tuple[Unreached, ...]
    #: Faults that could not be made.
    impotent: tuple[str, ...]
    ends: tuple[End, ...]
