"""What a test sees of a worker: records, rows and counters."""

import asyncio
from collections.abc import Callable
from uuid import uuid4

from confluent_kafka import Message
from sqlalchemy import text

from runtime.database.queries import find_job, find_result
from schemas.codec import decode
from schemas.events import Heartbeat, State
from schemas.results import ResultEvent
from tests.integration.workers.rig import Rig


def new_id() -> str:
    return f"job-{uuid4().hex[:12]}"


def key(record: Message) -> str:
    return (record.key() or b"").decode()


def header(record: Message, name: str) -> str:
    """A header's text; the client gives them as pairs."""
    value = dict(record.headers() or [])[name]
    assert isinstance(value, bytes)
    return value.decode()


def has(job_id: str, times: int = 1) -> Callable[[list[Message]], bool]:
    """Whether so many records have the job's key."""
    return lambda records: sum(key(record) == job_id for record in records) >= times


def beats(records: list[Message], worker_id: str) -> list[Heartbeat]:
    return [decode(Heartbeat, record.value() or b"") for record in records if key(record) == worker_id]


def stored(rig: Rig, job_id: str) -> ResultEvent | None:
    with rig.database.begin() as connection:
        return find_result(connection, "default", job_id)


def state(rig: Rig, job_id: str) -> State:
    with rig.database.begin() as connection:
        row = find_job(connection, "default", job_id)
    assert row is not None
    return row.state


def outbox(rig: Rig, job_id: str) -> list[ResultEvent]:
    """The job's terminal events that wait for the relay."""
    statement = text("SELECT event::text FROM outbox WHERE job_id = :id")
    with rig.database.begin() as connection:
        events = connection.execute(statement, {"id": job_id}).scalars().all()
    return [decode(ResultEvent, event.encode()) for event in events]


def take_away(rig: Rig, job_id: str) -> None:
    """Give the job to another attempt."""
    with rig.database.begin() as connection:
        connection.execute(text("UPDATE jobs SET epoch = epoch + 1 WHERE id = :id"), {"id": job_id})


def value_of(rig: Rig, name: str, **labels: str) -> float:
    samples = [sample for family in rig.servers.metrics.event().families for sample in family.samples]
    return sum(s.value for s in samples if s.name == name and labels.items() <= s.labels.items())


async def ended(rig: Rig, status: str, times: int = 1) -> None:
    """Wait until so many attempts have ended so."""
    async with asyncio.timeout(30):
        while value_of(rig, "headrace_worker_jobs_total", status=status) < times:  # noqa: ASYNC110  counters tell nobody
            await asyncio.sleep(0.02)
