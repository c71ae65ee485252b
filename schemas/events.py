"""Everything else that travels: assignments, heartbeats, progress, states, control, metrics.

Readers ignore fields that they don't know, so that a newer writer does not stop an older reader.
"""

from enum import StrEnum
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from schemas import limits
from schemas.requests import DEFAULT_TENANT, Job, JobId, Tenant, Time
from schemas.topics import Kind


class State(StrEnum):
    """Where a job is (design, section 2)."""

    VALIDATING = "validating"
    REJECTED = "rejected"
    QUEUED = "queued"
    SCHEDULED = "scheduled"
    LOADING = "loading"
    RUNNING = "running"
    PAUSING = "pausing"
    PAUSED = "paused"
    PREEMPTED = "preempted"
    FINALIZING = "finalizing"
    EVALUATING = "evaluating"
    PROMOTED = "promoted"
    HELD = "held"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


#: The CloudEvents type that tells a stop from a job on the work topic; older workers skip it.
STOP_TYPE: Final = "headrace.work.stop.v1"

#: States after which nothing comes.
FINAL_STATES = frozenset({
    State.REJECTED, State.SUCCEEDED, State.FAILED, State.CANCELLED, State.EXPIRED, State.PROMOTED, State.HELD,
})  # fmt: skip
#: Ends after which a job may be submitted again: it ran, or could have run, and came to no result.
RETRIED_STATES = frozenset({State.FAILED, State.CANCELLED, State.EXPIRED})


class Lease(Struct, frozen=True):
    """The right of one attempt to write a job's state: valid while Postgres has this epoch."""

    tenant: Tenant
    job_id: JobId
    epoch: int
    worker_id: str


class WorkEvent(Struct, frozen=True):
    """A job for one worker, which alone may run it under this lease.

    ``again``: it was told before, or so it seems; the worker asks whether it still has the lease before it begins.
    """

    job: Job
    lease: Lease
    scheduled_at: Time
    again: bool = False


class Slots(Struct, frozen=True):
    """How many jobs of each kind a worker can take at this moment."""

    generate: int = 0
    finetune: int = 0
    evaluate: int = 0

    def free(self, kind: Kind) -> int:
        """The free slots of one kind."""
        match kind:
            case Kind.GENERATE:
                return self.generate
            case Kind.FINETUNE:
                return self.finetune
            case Kind.EVALUATE:
                return self.evaluate


class Heartbeat(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A worker's sign of life, and its credit.

    ``free`` was true when every work record below offset ``position`` of the worker's
    ``partition`` had been taken, so the dispatcher subtracts what it has sent from there on.
    """

    worker_id: str
    host: str
    partition: int
    position: int
    free: Slots
    models: tuple[str, ...] = ()
    #: What its jobs wait for, of models that it does not hold yet. Workers before 0.2 don't tell.
    loading: tuple[str, ...] | None = None
    device: str = "cpu"
    version: str = ""
    #: The worker takes no more jobs and leaves when those it has are done.
    draining: bool = False
    #: The last heartbeat: the worker has gone.
    leaving: bool = False
    #: What ``free`` is while the worker has nothing to do. Workers before 0.2 don't tell.
    slots: Slots | None = None
    #: How many of these are beyond those that it runs at once, so that each finds its next job there.
    ahead: Slots | None = None


class ProgressFields(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Whose progress it is. ``sequence`` orders one attempt's events, from 0, with gaps where it changed its worker."""

    job_id: JobId
    tenant: Tenant
    attempt: int
    sequence: int
    at: Time


class TrainProgress(ProgressFields, frozen=True, kw_only=True, tag="train", tag_field="type"):
    """A training step. ``loss`` in nats per trained token; ``remaining_s`` is an estimate."""

    step: int
    steps: int
    loss: float
    learning_rate: float
    tokens_per_s: float
    remaining_s: float


class CountProgress(ProgressFields, frozen=True, kw_only=True, tag="count", tag_field="type"):
    """So many of so many done, in ``unit`` (examples, tokens, bytes)."""

    done: int
    total: int
    unit: str


class TextProgress(ProgressFields, frozen=True, kw_only=True, tag="text", tag_field="type"):
    """The next piece of a streamed answer."""

    prompt: int
    index: int
    text: str


class LogProgress(ProgressFields, frozen=True, kw_only=True, tag="log", tag_field="type"):
    """A line for whoever watches the job."""

    level: Literal["info", "warning", "error"]
    message: str


ProgressEvent = TrainProgress | CountProgress | TextProgress | LogProgress


class StatusEvent(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A job's latest state."""

    job_id: JobId
    tenant: Tenant
    kind: Kind
    state: State
    attempt: int
    at: Time
    worker_id: str | None = None
    #: Jobs before this one, and the estimated start, while it is queued.
    queue_position: int | None = None
    starts_in_s: float | None = None
    reason: str | None = None


class ControlEvent(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a client asks of a job that it has submitted.

    cancel: it ends as cancelled; ``keep_partial``: with what a running one has made by then as its result.
    pause, resume: it waits, and goes on from its last checkpoint. retry: one that has failed, was cancelled
    or has expired is submitted again, as a job of its own with the id ``new_id``.
    """

    action: Literal["cancel", "retry", "pause", "resume"]
    job_id: JobId
    tenant: Tenant = DEFAULT_TENANT
    reason: Annotated[str, Meta(max_length=1_024)] | None = None
    keep_partial: bool = False
    #: The default is the old id with ``.r`` and the offset of this event behind it.
    new_id: JobId | None = None

    def __post_init__(self) -> None:
        if self.keep_partial and self.action != "cancel":
            raise ValueError(f"`keep_partial` goes with `cancel`, not with `{self.action}`: leave it out")
        if self.new_id is not None and self.action != "retry":
            raise ValueError(f"`new_id` goes with `retry`, not with `{self.action}`: leave it out")


class StopEvent(Struct, frozen=True):
    """What a client wants of a job that this worker runs, under this lease: to cancel or to pause it."""

    lease: Lease
    control: ControlEvent


class Sample(Struct, frozen=True, omit_defaults=True):
    """One value of a metric, as Prometheus names it: ``x_total``, ``x_bucket`` with ``le``, …"""

    name: str
    value: float
    labels: dict[str, str] = {}


class MetricFamily(Struct, frozen=True, omit_defaults=True):
    """A metric of one process: all its samples since the process started (counters are cumulative).

    ``bounds`` are the buckets of a histogram, as ``le`` names them, in ascending order to ``+Inf``. Where they are
    told, a bucket other than ``+Inf`` may be missing: it holds as many as the next lower one, the lowest of all none.
    The buckets of a series follow each other in that order.
    """

    name: str
    type: Literal["counter", "gauge", "histogram"]
    help: str
    samples: tuple[Sample, ...]
    bounds: Annotated[tuple[str, ...], Meta(max_length=limits.BUCKETS)] = ()


class MetricsEvent(Struct, frozen=True, kw_only=True):
    """All metrics of one process at one moment; a repeat or a late one changes nothing.

    ``source`` is one process' life: a restarted process is another source. ``sequence`` orders its events.
    """

    source: str
    service: str
    sequence: int
    at: Time
    families: tuple[MetricFamily, ...]
