"""What a client's wish comes to, by the state in which it finds the job. Pure functions."""

from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Final, assert_never

import msgspec

from runtime.database.admissions import Source
from schemas.codec import decode
from schemas.errors import JobCancelled, JobPaused
from schemas.events import RETRIED_STATES, ControlEvent, Lease, State
from schemas.topics import Kind

LEASED: Final = frozenset({State.SCHEDULED, State.RUNNING})
WAITING: Final = frozenset({State.QUEUED, State.PAUSED})


@dataclass(frozen=True)
class Wish:
    """A client's wish, and where it was read: of a retry, the source of the new job.

    ``written_ms`` is when Kafka took it, in milliseconds since 1970.
    """

    event: ControlEvent
    traceparent: str = ""
    source: Source | None = None
    written_ms: int = 0

    @property
    def key(self) -> tuple[str, str]:
        """The tenant and the id that it names."""
        return (self.event.tenant, self.event.job_id)


@dataclass(frozen=True)
class Standing:
    """A job as a wish finds it; its row is locked."""

    tenant: str
    id: str
    kind: Kind
    state: State
    attempt: int
    epoch: int
    worker_id: str | None
    traceparent: str
    request_sha256: str
    queued_at: datetime
    deadline: datetime | None
    #: It waits out the backoff after a lost attempt.
    is_delayed: bool
    #: What its client wants of it, while the worker that has it may not have seen that.
    control: ControlEvent | None

    @property
    def lease(self) -> Lease:
        """The lease of the worker that has it."""
        return Lease(self.tenant, self.id, self.epoch, self.worker_id or "")


@dataclass(frozen=True)
class End:
    """The job waits, and ends where it is."""

    fate: ClassVar[str] = "cancelled"


@dataclass(frozen=True)
class Move:
    """The job waits, and goes on waiting as paused, or as queued and available at once."""

    fate: ClassVar[str] = "moved"
    state: State


@dataclass(frozen=True)
class Tell:
    """A worker has the job and is to hear of the wish; ``state`` is where that takes the job."""

    fate: ClassVar[str] = "told"
    state: State


@dataclass(frozen=True)
class TellAgain:
    """The same wish was there before: the worker hears of it once more, for a crash may have come between."""

    fate: ClassVar[str] = "repeated"


@dataclass(frozen=True)
class Withdraw:
    """A worker has the job and is about to pause it: it will be queued when it comes back."""

    fate: ClassVar[str] = "withdrawn"


@dataclass(frozen=True)
class Resubmit:
    """The job has ended, and is submitted again under a new id."""

    fate: ClassVar[str] = "resubmitted"


@dataclass(frozen=True)
class Remember:
    """There is no such job yet, as far as this transaction can see: the wish waits for it."""

    fate: ClassVar[str] = "remembered"


@dataclass(frozen=True)
class Nothing:
    """The wish does not fit the job's state, and changes nothing."""

    fate: ClassVar[str] = "unfit"
    reason: str


Decision = End | Move | Tell | TellAgain | Withdraw | Resubmit | Remember | Nothing


def noted(control: str | None) -> ControlEvent | None:
    """The wish that is stored with a job, if there is one that this release understands."""
    try:
        return decode(ControlEvent, control.encode()) if control else None
    except msgspec.DecodeError:
        # A later release wrote it, and carries it out once it is back.
        return None


def cancelled(wish: ControlEvent) -> JobCancelled:
    """Why the job ends, for its sender."""
    return JobCancelled(f"Its client cancelled the job{_because(wish)}.", keep_partial=wish.keep_partial)


def paused(wish: ControlEvent) -> JobPaused:
    """Why the attempt ends."""
    return JobPaused(f"Its client paused the job{_because(wish)}.")


def decide(job: Standing | None, wish: ControlEvent) -> Decision:
    """What is to be done about a wish; ``job`` is None where the tenant has no such job."""
    if job is None:
        return _before_admission(wish)
    if job.state not in LEASED | WAITING:
        return _after_end(job, wish)
    cancelling = job.control is not None and job.control.action == "cancel"
    if cancelling and wish.action != "cancel":
        return Nothing("it is being cancelled")
    match wish.action:
        case "cancel":
            return End() if job.state in WAITING else _told(job, wish, State.CANCELLING)
        case "pause":
            return _paused(job, wish)
        case "resume":
            return _resumed(job)
        case "retry":
            return _hastened(job)
        case unknown:
            assert_never(unknown)


def decide_again(job: Standing | None, wish: ControlEvent) -> Decision:
    """What is to be done about a wish that was carried out before, where a crash may have come before all were told."""
    if job and job.state in LEASED and job.control == wish:
        return TellAgain()
    return Nothing("it was carried out before")


def _before_admission(wish: ControlEvent) -> Decision:
    match wish.action:
        case "cancel" | "pause" | "resume":
            return Remember()
        case "retry":
            return Nothing("its tenant has no such job; what was never admitted is submitted again by its sender")
        case unknown:
            assert_never(unknown)


def _after_end(job: Standing, wish: ControlEvent) -> Decision:
    if wish.action == "retry" and job.state in RETRIED_STATES:
        return Resubmit()
    return Nothing(f"it has ended as {job.state}")


def _told(job: Standing, wish: ControlEvent, state: State) -> Decision:
    same = job.control is not None and job.control.action == wish.action
    return TellAgain() if same else Tell(state)


def _paused(job: Standing, wish: ControlEvent) -> Decision:
    match job.state:
        case State.QUEUED:
            return Move(State.PAUSED)
        case State.PAUSED:
            return Nothing("it is paused already")
        case _:
            return _told(job, wish, State.PAUSING)


def _resumed(job: Standing) -> Decision:
    pausing = job.control is not None and job.control.action == "pause"
    if job.state is State.PAUSED or (job.state is State.QUEUED and job.control):
        return Move(State.QUEUED)
    if pausing:
        return Withdraw()
    return Nothing(f"it is {job.state}, not paused")


def _hastened(job: Standing) -> Decision:
    if job.state is State.QUEUED and job.is_delayed:
        return Move(State.QUEUED)
    advice = "resume it" if job.state is State.PAUSED else "cancel it first to run it anew"
    return Nothing(f"it has not ended, it is {job.state}: {advice}")


def _because(wish: ControlEvent) -> str:
    return f": {wish.reason.rstrip('.')}" if wish.reason else ""
