"""Records, jobs and heartbeats for the tests of pure code."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zlib import crc32

from runtime.database.jobs import QueuedJob
from schemas.events import Heartbeat, Slots
from schemas.topics import Kind

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@dataclass(frozen=True)
class FakeRecord:
    """A record as Kafka would give it."""

    value: bytes | None = b"{}"
    headers: Sequence[tuple[str, bytes | None]] = ()
    offset: int = 0
    key: bytes | None = None
    topic: str = "headrace.requests.generate.v1"
    partition: int = 1
    timestamp: int = int(NOW.timestamp() * 1_000) - 250


def job(
    name: str,
    *,
    tenant: str = "default",
    kind: Kind = Kind.GENERATE,
    priority: int = 1,
    age_s: float = 0.0,
    model: str = "m",
    cost: int = 1,
    lost_attempts: int = 0,
) -> QueuedJob:
    """A job that waits since ``age_s``."""
    return QueuedJob(
        tenant,
        name,
        kind,
        priority,
        model,
        NOW - timedelta(seconds=age_s),
        TRACE,
        1 + lost_attempts,
        cost,
        lost_attempts,
        age_s,
    )


def beat(
    worker: str,
    *,
    slots: int = 2,
    total: int | None = None,
    position: int = 0,
    partition: int | None = None,
    models: tuple[str, ...] = (),
    loading: tuple[str, ...] | None = None,
    ahead: int | None = None,
) -> Heartbeat:
    """A worker's heartbeat with as many free slots of each kind, of ``total``, of which so many are ``ahead``."""
    return Heartbeat(
        worker_id=worker,
        host="here",
        partition=crc32(worker.encode()) if partition is None else partition,
        position=position,
        free=Slots(generate=slots, finetune=slots, evaluate=slots),
        models=models,
        loading=loading,
        slots=None if total is None else Slots(generate=total, finetune=total, evaluate=total),
        ahead=None if ahead is None else Slots(generate=ahead, finetune=ahead, evaluate=ahead),
    )
