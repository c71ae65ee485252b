"""One worker from its first heartbeat to its last."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, assert_never

from runtime.database.thread import DatabaseThread
from runtime.kafka import Publisher
from runtime.monitoring import Metrics
from runtime.settings import CODE_VERSION, Settings
from schemas.errors import ServerUnreachable
from schemas.events import Heartbeat, Slots, StopEvent, WorkEvent
from workers.announcer import KafkaAnnouncer
from workers.checkpoints import CheckpointStore
from workers.consumer import Taken, WorkReader
from workers.context import Tools
from workers.desk import Desk, Workplace
from workers.heartbeats import Heartbeats
from workers.job import Handlers
from workers.leases import Leases
from workers.metrics import WorkerMetrics
from workers.outcomes import Outcomes

log = logging.getLogger(__name__)

#: How long generations may go on after the worker was told to stop; supervisors kill after 10 s.
GRACE_S: Final = 5.5
#: How long what is left then may take to stop by itself, and how long giving it back may take.
STOPPING_S: Final = 0.5
RETURN_S: Final = 1.0
#: How long jobs may still come in after the dispatcher was told that no more are wanted.
LAST_ORDERS_S: Final = 0.5
FLUSH_S: Final = 1.0

#: Opens the given partition of the work topic, at its end, for the worker of this id.
OpenPartition = Callable[[int, str, WorkerMetrics], Awaitable[WorkReader]]


@dataclass(frozen=True)
class Servers:
    """What a worker's process has open to the outside."""

    database: DatabaseThread
    renewals: DatabaseThread
    publisher: Publisher
    open_partition: OpenPartition
    metrics: Metrics


class Worker:
    """Owns one partition of the work topic for as long as it runs; made in a running event loop."""

    def __init__(self, settings: Settings, servers: Servers, tools: Tools, handlers: Handlers) -> None:
        self.id = f"{settings.host}-{random.getrandbits(32):08x}"
        self._settings = settings
        self._publisher = servers.publisher
        self._tools = tools
        self._metrics = WorkerMetrics(servers.metrics)
        self._open_partition = servers.open_partition
        self._leases = Leases(servers.database, servers.renewals, self.id, settings.host, settings.lease_s)
        announcer = KafkaAnnouncer(servers.publisher, self.id, self._metrics)
        self._heartbeats = Heartbeats(servers.publisher, self._describe)
        self._outcomes = Outcomes(servers.database, self._leases, self._metrics, self._heartbeats.shortly)
        self._checkpoints = CheckpointStore(servers.database, tools.artifacts, settings.checkpoint_s)
        self._desk = Desk(
            Slots(settings.generate_slots, settings.finetune_slots, settings.evaluate_slots),
            Workplace(handlers, tools, announcer, self._outcomes, self._checkpoints.of),
            self._leases,
            self._metrics,
            self._heartbeats.soon,
        )
        #: Set once the dispatcher can know this worker.
        self.serving = asyncio.Event()
        self.partition = -1
        self._position = 0
        self._draining = self._leaving = False

    async def run(self, stop: asyncio.Event, on_failure: Callable[[], None] | None = None) -> None:
        """Work until ``stop`` is set; then take no more, finish or give back what is there, and leave.

        ``on_failure`` is called when the worker fails: what it drops then may take long to let go.

        Raises:
            NoFreePartition, ServerUnreachable: it could not begin.
            PartitionLost: another worker owns its partition, so it dropped everything.
            WorkerBroken: it can't compute any more, so it gave back what it could.
        """
        self.partition = await self._leases.claim()
        reader = await self._open_partition(self.partition, self.id, self._metrics)
        self._position = reader.position

        def ended(task: asyncio.Task[None]) -> None:
            if on_failure and not task.cancelled() and task.exception():
                on_failure()

        await self._serve(reader, stop, ended)
        await self._leave()

    async def _serve(
        self, reader: WorkReader, stop: asyncio.Event, ended: Callable[[asyncio.Task[None]], None]
    ) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self._leases.keep(), name="leases"),
                    group.create_task(self._outcomes.run(), name="outcomes"),
                    group.create_task(self._checkpoints.run(), name="checkpoints"),
                    group.create_task(reader.read(self._take), name="reader"),
                    group.create_task(self._heartbeats.run(), name="heartbeats"),
                    group.create_task(self._ready(), name="ready"),
                    group.create_task(self._fail(), name="failure"),
                ]
                for task in tasks:
                    task.add_done_callback(ended)
                await stop.wait()
                await self._drain(GRACE_S)
                for task in tasks:
                    task.cancel()
        except ExceptionGroup as group:
            # The first is the reason; the others are what it led to.
            raise group.exceptions[0] from None
        finally:
            self._leases.abandon()
            await self._desk.clear()

    def _take(self, taken: Taken) -> None:
        for event in taken.work:
            match event:
                case WorkEvent():
                    self._desk.take(event)
                case StopEvent():
                    self._leases.stop(event.lease, event.control)
                case unknown:
                    assert_never(unknown)
        self._position = taken.position

    async def _ready(self) -> None:
        await self._heartbeats.delivered.wait()
        self._settings.ready()
        self.serving.set()
        log.info("worker %s serves partition %d", self.id, self.partition)

    async def _fail(self) -> None:
        """End the worker once it can't compute any more: others take the jobs that had no part in that.

        Its partition stays its own until the lease runs out, and so do the jobs that may have been the reason: told
        that the worker leaves, the dispatcher would queue them again as if they had not failed.
        """
        reason = await self._desk.broken
        log.error("worker %s can't go on: %s", self.id, reason)
        await self._drain(LAST_ORDERS_S)
        raise reason

    async def _drain(self, grace_s: float) -> None:
        log.info("worker %s takes no more jobs", self.id)
        self._draining = True
        self._heartbeats.soon()
        self._desk.drain()
        with suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                await asyncio.sleep(LAST_ORDERS_S)
                await self._desk.cleared()
        try:
            async with asyncio.timeout(STOPPING_S + RETURN_S):
                await self._desk.expel(STOPPING_S)
        except TimeoutError:
            log.warning("worker %s leaves jobs to their leases' end: Postgres does not answer", self.id)

    async def _leave(self) -> None:
        # Told first, given back second: the other way round, work for this worker could go to a
        # partition that has a new reader.
        self._leaving = True
        self._heartbeats.beat()
        # In a thread of its own: those that asyncio has may all wait for a store that does not answer.
        flushing = ThreadPoolExecutor(1, thread_name_prefix="flush")
        await asyncio.get_running_loop().run_in_executor(flushing, self._publisher.flush, FLUSH_S)
        flushing.shutdown(wait=False)
        try:
            async with asyncio.timeout(FLUSH_S):
                await self._leases.release()
        except (ServerUnreachable, TimeoutError) as error:
            log.warning("worker %s leaves its partition to its lease's end: %s", self.id, error)

    def _describe(self) -> Heartbeat:
        models = self._tools.models.held()
        return Heartbeat(
            worker_id=self.id,
            host=self._settings.host,
            partition=self.partition,
            position=self._position,
            free=Slots() if self._draining else self._desk.free(),
            slots=self._desk.room(),
            ahead=self._desk.ahead(),
            models=models,
            loading=tuple(self._desk.models() - set(models)),
            device=str(self._tools.models.device),
            version=CODE_VERSION,
            draining=self._draining,
            leaving=self._leaving,
        )
