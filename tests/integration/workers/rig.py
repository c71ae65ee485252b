"""A worker in this process between a real Kafka and a real Postgres, and a stand-in for the dispatcher."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Self

from confluent_kafka import Message

from runtime.database import Database
from runtime.database.admissions import Admission, Source, admit, request_digest
from runtime.database.jobs import QueuedJob, lease
from runtime.database.leased import LeasedJob
from runtime.database.thread import DatabaseThread
from runtime.kafka import Publisher
from runtime.kafka_consumers import assigned_consumer
from runtime.monitoring import Metrics
from runtime.settings import Settings
from schemas import topics
from schemas.codec import new_traceparent
from schemas.events import WorkEvent
from schemas.requests import EvaluateRequest, FineTuneRequest, GenerateRequest, Request
from schemas.results import Choice, EvaluateResult, FineTuneResult, GenerateResult
from schemas.topics import Kind, Topic
from workers.consumer import open_partition
from workers.context import JobContext, Tools
from workers.job import Handlers
from workers.tools import open_tools
from workers.worker import Servers, Worker

DEADLINE_S = 30.0
_offsets = itertools.count()


async def echo(request: GenerateRequest, ctx: JobContext) -> GenerateResult:
    """Answer with the prompt, without a model."""
    ctx.running()
    return GenerateResult(choices=(Choice(0, 0, request.prompt or "", 0, "stop"),))


async def no_finetune(request: FineTuneRequest, ctx: JobContext) -> FineTuneResult:
    """These tests train nothing."""
    raise AssertionError(f"{ctx.job.id} asks to tune {request.model}")


async def no_evaluate(request: EvaluateRequest, ctx: JobContext) -> EvaluateResult:
    """These tests score nothing."""
    raise AssertionError(f"{ctx.job.id} asks to score {request.model}")


ECHO = Handlers(echo, no_finetune, no_evaluate)


@dataclass(frozen=True)
class Rig:
    """Everything a worker needs, but for its handlers."""

    settings: Settings
    database: Database
    servers: Servers
    tools: Tools

    @asynccontextmanager
    async def worker(self, handlers: Handlers = ECHO, stop: asyncio.Event | None = None) -> AsyncIterator[Worker]:
        """A worker that serves; it is told to stop by ``stop`` or at the block's end, when it has left."""
        stop = stop or asyncio.Event()
        worker = Worker(self.settings, self.servers, self.tools, handlers)
        running = asyncio.create_task(worker.run(stop))
        serving = asyncio.create_task(worker.serving.wait())
        await asyncio.wait([running, serving], timeout=DEADLINE_S, return_when=asyncio.FIRST_COMPLETED)
        if not worker.serving.is_set():
            serving.cancel()
            running.cancel()
            await running
        try:
            yield worker
        finally:
            stop.set()
            await running

    def ask(self, worker: Worker, jobs: int, kind: Kind = Kind.GENERATE) -> None:
        """Have the worker take so many jobs, as if it had said so in a heartbeat after very short ones."""
        worker._desk._places._offered[kind] = jobs

    def lease(
        self, worker_id: str, ids: Sequence[str], request: Request | None = None, lease_s: float = 30.0
    ) -> list[LeasedJob]:
        """Admit jobs and lease them to a worker, as intake and dispatcher do."""
        asked = request or GenerateRequest(model="none", prompt="hello")
        rows = [_admission(job_id, asked) for job_id in ids]
        queued = [QueuedJob(row.tenant, row.id, row.kind, 1, "none", row.queued_at, row.traceparent) for row in rows]
        with self.database.begin() as connection:
            admit(connection, rows)
            return lease(connection, [(job, worker_id) for job in queued], lease_s)

    def send(self, partition: int, jobs: Sequence[LeasedJob], *, again: bool = False) -> None:
        """Put leased jobs into a worker's partition; ``again``: as a dispatcher that finds them unconfirmed."""
        for item in jobs:
            self.servers.publisher.publish(
                topics.WORK,
                WorkEvent(item.job, item.lease, item.scheduled_at, again),
                key=item.job.id,
                event_id=f"{item.job.id}/{item.lease.epoch}",
                traceparent=item.job.traceparent,
                partition=partition,
            )

    def give(self, worker: Worker, *ids: str, request: Request | None = None) -> list[LeasedJob]:
        """Lease jobs to a worker and send them."""
        jobs = self.lease(worker.id, ids, request)
        self.send(worker.partition, jobs)
        return jobs


@contextmanager
def open_rig(kafka: str, database_url: str, cache_dir: Path) -> Iterator[Rig]:
    """Clients of the two servers, and the tools of a worker that has no models."""
    settings = replace(
        Settings(kafka=kafka, database=database_url, models=(), data=()),
        cache_dir=cache_dir,
        store=(cache_dir / "store").as_uri(),
        host="test",
        generate_slots=4,
        lease_s=3.0,
    )
    database = Database(database_url)
    publisher = Publisher(kafka, "test")
    metrics = Metrics("worker")
    try:
        with (
            open_tools(settings, database, metrics) as tools,
            closing(DatabaseThread(database)) as thread,
            closing(DatabaseThread(database)) as renewals,
        ):
            servers = Servers(thread, renewals, publisher, partial(open_partition, kafka), metrics)
            yield Rig(settings, database, servers, tools)
    finally:
        publisher.close()
        database.close()


class Tail:
    """Reads a topic from where it ended when the tail was made."""

    def __init__(self, kafka: str, topic: Topic) -> None:
        self._topic = topic
        self._consumer = assigned_consumer(kafka, topic.name, range(topic.partitions), at="end")
        self.records: list[Message] = []
        # Positions are known once a poll has come back, and what is written later is seen.
        self._consumer.poll(0.5)

    async def until(self, enough: Callable[[list[Message]], bool]) -> list[Message]:
        """Read on until ``enough`` says so."""
        end_s = time.monotonic() + DEADLINE_S
        while not enough(self.records):
            assert time.monotonic() < end_s, f"{self._topic.name}: {len(self.records)} records were not enough"
            self.records += await asyncio.to_thread(self._consumer.consume, 500, 0.1)
        return self.records

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close()


def _admission(job_id: str, request: Request) -> Admission:
    now = datetime.now(UTC)
    kind = {GenerateRequest: Kind.GENERATE, FineTuneRequest: Kind.FINETUNE, EvaluateRequest: Kind.EVALUATE}
    return Admission(
        tenant="default",
        id=job_id,
        kind=kind[type(request)],
        request=request,
        request_sha256=request_digest(request)[1],
        traceparent=new_traceparent(),
        source=Source("headrace.requests.generate.v1", 0, next(_offsets)),
        submitted_at=now,
        queued_at=now,
    )
