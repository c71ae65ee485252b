"""The rows of the model of Postgres: as the tables of ``runtime.database.tables``, in dictionaries."""

from dataclasses import dataclass, field
from datetime import datetime

from runtime.database.admissions import Source
from runtime.database.checkpoints import Checkpoint
from runtime.database.outbox import Position
from schemas.events import ControlEvent, State
from schemas.requests import Request
from schemas.topics import Kind

Key = tuple[str, str]

LEASED = (State.SCHEDULED.value, State.RUNNING.value)


@dataclass
class JobRow:
    """A row of ``jobs``."""

    tenant: str
    id: str
    kind: Kind
    state: str
    priority: int
    model: str
    request: Request | None
    request_sha256: str
    traceparent: str
    source: Source
    deadline: datetime | None
    submitted_at: datetime
    queued_at: datetime
    available_at: datetime
    cost: int = 1
    finished_at: datetime | None = None
    error_code: str | None = None
    attempt: int = 1
    lost_attempts: int = 0
    reached: int = 0
    epoch: int = 0
    worker_id: str | None = None
    lease_expires_at: datetime | None = None
    scheduled_at: datetime | None = None
    control: ControlEvent | None = None

    @property
    def key(self) -> Key:
        """The primary key."""
        return (self.tenant, self.id)

    @property
    def place(self) -> tuple[datetime, str, str]:
        """Where it is in the queue."""
        return (self.available_at, self.tenant, self.id)

    @property
    def leased(self) -> bool:
        """Whether an attempt may have it."""
        return self.state in LEASED


@dataclass(frozen=True)
class OutboxRow:
    """A row of ``outbox``; ``transaction`` is its writer's."""

    tenant: str
    job_id: str
    traceparent: str
    event: bytes
    created_at: datetime
    transaction: int

    @property
    def position(self) -> Position:
        """Its place in the order."""
        return Position(self.transaction, self.tenant, self.job_id)


@dataclass(frozen=True)
class ResultRow:
    """A row of ``results``."""

    status: str
    attempt: int
    event: bytes


@dataclass(frozen=True)
class CheckpointRow:
    """A row of ``checkpoints``."""

    attempt: int
    checkpoint: Checkpoint
    created_at: datetime


@dataclass
class WorkerRow:
    """A row of ``workers``."""

    worker_id: str
    lease_expires_at: datetime


@dataclass
class Tables:
    """Everything that is committed."""

    jobs: dict[Key, JobRow] = field(default_factory=dict)
    results: dict[Key, ResultRow] = field(default_factory=dict)
    outbox: dict[Key, OutboxRow] = field(default_factory=dict)
    workers: dict[int, WorkerRow] = field(default_factory=dict)
    checkpoints: dict[Key, CheckpointRow] = field(default_factory=dict)
    reconciled: dict[tuple[str, int], int] = field(default_factory=dict)
    wishes: dict[Key, ControlEvent] = field(default_factory=dict)
    carried_out: dict[tuple[str, int], tuple[int, int]] = field(default_factory=dict)

    def position(self, key: Key) -> int:
        """How far a job's checkpoint is; 0 where there is none."""
        row = self.checkpoints.get(key)
        return row.checkpoint.position if row else 0


@dataclass(frozen=True)
class Transaction:
    """What a statement knows of its transaction: its number, Postgres' time when it began, and the oldest that runs."""

    number: int
    now: datetime
    oldest: int
