"""The two kinds of processes, put together as their ``__main__`` does, but between models."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final

from runtime.monitoring import Metrics
from runtime.settings import Settings
from schemas import topics
from schemas.codec import decode
from schemas.events import STOP_TYPE, StopEvent, WorkEvent
from schemas.topics import Kind
from streams.chunks import Chunk
from streams.control import Control
from streams.dispatch import Dispatch
from streams.instruments import Instruments
from streams.intake import Intake
from streams.quotas import Quotas
from streams.reaper import Reaper
from streams.reconciler import Reconciler
from streams.relay import Relay
from streams.underway import Underway
from streams.work import Retelling
from tests.simulation import checkpoints, statements, wishes
from tests.simulation.artifacts import SimArtifacts
from tests.simulation.group import HEARTBEATS, Coordinator, Membership
from tests.simulation.handlers import tools
from tests.simulation.kafka import Broker, Place, SimPublisher, SimRecord, SimResultLog
from tests.simulation.loop import PROCESS, Process
from tests.simulation.postgres import Postgres, SimDatabase
from tests.simulation.requests import SimRequestLog
from tests.simulation.statements import Statement
from workers.consumer import Taken
from workers.job import Handlers
from workers.metrics import WorkerMetrics
from workers.worker import Servers, Worker

#: What the model of Postgres understands.
STATEMENTS: Final = {**statements.STATEMENTS, **wishes.STATEMENTS, **checkpoints.STATEMENTS}
#: Short, so that a simulation has time for many of them.
LEASE_S: Final = 5.0
RECONCILE_S: Final = 8.0
#: More than any simulation has.
QUEUE_JOBS: Final = 10_000
SETTINGS: Final = Settings(generate_slots=3, finetune_slots=1, evaluate_slots=1, lease_s=LEASE_S)
BATCH_RECORDS: Final = 500


class NoMetrics(Metrics):
    """Measures nothing: no promise is about it, and it takes a third of the time."""

    def counter(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Any:  # noqa: ARG002
        return _Silent()

    def gauge(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Any:  # noqa: ARG002
        return _Silent()

    def histogram(self, name: str, text: str, labels: tuple[str, ...] = (), bounds: tuple[float, ...] = ()) -> Any:  # noqa: ARG002
        return _Silent()


class WorkerCounts(NoMetrics):
    """As ``NoMetrics``, but ``unwanted`` is called for each job that came beyond what a worker asked for."""

    def __init__(self, unwanted: Callable[[Process, str], None]) -> None:
        super().__init__("simulation")
        self._unwanted = unwanted

    def counter(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Any:
        if name == "headrace_worker_jobs_unwanted_total":
            return _Told(self._unwanted)
        return super().counter(name, text, labels)


class _Told:
    def __init__(self, unwanted: Callable[[Process, str], None], kind: str = "") -> None:
        self._unwanted = unwanted
        self._kind = kind

    def labels(self, kind: str) -> "_Told":
        return _Told(self._unwanted, kind)

    def inc(self) -> None:
        self._unwanted(PROCESS.get(), self._kind)


class _Silent:
    def labels(self, *_values: str) -> "_Silent":
        return self

    def record(self, _amount: float = 1.0) -> None:
        """Nothing."""

    inc = set = observe = record


@dataclass(frozen=True)
class Parts:
    """What a simulation is made of; a planted bug is another class, or another statement, in one of the places."""

    dispatch: type[Dispatch] = Dispatch
    intake: type[Intake] = Intake
    reaper: type[Reaper] = Reaper
    control: type[Control] = Control
    relay: type[Relay] = Relay
    worker: type[Worker] = Worker
    membership: type[Membership] = Membership
    publisher: type[SimPublisher] = SimPublisher
    result_log: type[SimResultLog] = SimResultLog
    reader: "type[PartitionReader]" = None  # type: ignore[assignment]
    #: Whether requests that were passed over are looked for: what offsets do wrong is repaired then.
    reconciles: bool = False
    statements: dict[Any, Statement] = field(default_factory=lambda: dict(STATEMENTS))


@dataclass(frozen=True)
class Site:
    """The servers, and what all processes share."""

    postgres: Postgres
    broker: Broker
    coordinator: Coordinator
    metrics: NoMetrics
    instruments: Instruments
    handlers: Handlers
    artifacts: SimArtifacts
    parts: Parts
    #: Told of each worker, and when a dispatcher is given the workers.
    employed: Callable[[Process, Worker], None]
    dispatches: Callable[[], None]

    def database(self) -> SimDatabase:
        """A connection of the process that asks."""
        return SimDatabase(self.postgres, self.parts.statements)


async def dispatcher(site: Site, stop: asyncio.Event) -> None:
    """As ``streams.__main__``: serve until told to stop, or an error ends it."""
    parts = site.parts
    publisher = parts.publisher(site.broker, "dispatcher")
    dispatch = parts.dispatch(site.database(), publisher, publisher, site.instruments, LEASE_S)
    quotas = Quotas(site.database(), QUEUE_JOBS, QUEUE_JOBS, site.instruments)
    intake = parts.intake(site.database(), publisher, site.instruments, quotas, dispatch)
    relay = parts.relay(site.database(), parts.result_log(site.broker), site.instruments)
    reconciler = Reconciler(
        site.database(), SimRequestLog(site.broker, site.coordinator), intake.admit, site.instruments
    )
    agents = {topics.REQUESTS[kind].name: partial(intake.admit, kind) for kind in Kind}

    def assigned(places: set[Place]) -> None:
        relay.assign(owner=HEARTBEATS in places)
        reconciler.assign(owner=HEARTBEATS in places and site.parts.reconciles)
        if HEARTBEATS in places:
            site.dispatches()
        dispatch.assign(site.broker.end(HEARTBEATS) if HEARTBEATS in places else None)

    def revoked() -> None:
        dispatch.pause()
        relay.assign(owner=False)
        reconciler.assign(owner=False)

    async def heartbeats(chunk: Chunk) -> None:
        await dispatch.heartbeats(chunk)
        relay.wake()

    def left(jobs: Sequence[tuple[str, str]]) -> None:
        dispatch.forget(jobs)
        relay.wake()

    control = parts.control(site.database(), publisher, site.instruments, quotas, left)
    membership = parts.membership(
        site.coordinator,
        site.broker,
        PROCESS.get(),
        {**agents, topics.WORKERS.name: heartbeats, topics.CONTROL.name: control.apply},
        assigned,
        revoked,
    )
    loops = [
        dispatch.run(),
        parts.reaper(site.database(), publisher, site.instruments).run(LEASE_S),
        Retelling(site.database(), publisher, site.instruments, LEASE_S).run(),
        relay.run(),
        quotas.run(),
        control.run(),
        reconciler.run(RECONCILE_S),
        membership.run(),
    ]
    await _until_stopped(stop, [asyncio.ensure_future(loop) for loop in loops], membership, dispatch.underway)


async def worker(site: Site, stop: asyncio.Event) -> None:
    """As ``workers.__main__``."""
    name = PROCESS.get().name
    servers = Servers(
        site.database(),
        site.database(),
        site.parts.publisher(site.broker, "worker"),
        partial(open_partition, site),
        site.metrics,
    )
    made = site.parts.worker(replace(SETTINGS, host=name), servers, tools(site.artifacts), site.handlers)
    site.employed(PROCESS.get(), made)
    await made.run(stop)


class PartitionReader:
    """Reads a worker's partition, as ``workers.consumer.WorkConsumer``."""

    def __init__(self, site: "Site", place: Place, worker_id: str) -> None:
        self._site = site
        self._broker = site.broker
        self._place = place
        self._worker_id = worker_id
        self.position = self.begin()

    def begin(self) -> int:
        """Where to read from."""
        return self._broker.end(self._place)

    async def read(self, take: Callable[[Taken], None]) -> None:
        """Call ``take`` with what comes, until cancelled."""
        while True:
            await self._broker.appended(self._place, self.position)
            records = self._broker.records(self._place, self.position, BATCH_RECORDS)
            self.position = records[-1].offset + 1
            take(Taken(tuple(self.decode(records)), self.position))

    def decode(self, records: Sequence[SimRecord]) -> list[WorkEvent | StopEvent]:
        """The jobs and the stops among the records that are this worker's."""
        found = []
        for record in records:
            event_type = StopEvent if is_stop(record) else WorkEvent
            event: WorkEvent | StopEvent = decode(event_type, record.value or b"")
            if event.lease.worker_id == self._worker_id:
                found.append(event)
        return found


def is_stop(record: SimRecord) -> bool:
    """Whether a record of the work topic stops a job."""
    return ("ce_type", STOP_TYPE.encode()) in record.headers


async def open_partition(site: Site, partition: int, worker_id: str, _metrics: WorkerMetrics) -> PartitionReader:
    """A reader at the partition's end."""
    await asyncio.sleep(site.broker.delay_s())
    reader = site.parts.reader or PartitionReader
    return reader(site, (topics.WORK.name, partition), worker_id)


async def _until_stopped(
    stop: asyncio.Event, tasks: Sequence["asyncio.Future[None]"], membership: Membership, underway: Underway
) -> None:
    async def told_to() -> None:
        await stop.wait()

    told = asyncio.ensure_future(told_to())
    ends = [told, membership.crashed, *tasks]
    done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    for task in (told, *tasks):
        task.cancel()
    if done == {told}:
        membership.leave()
        await underway.finished()
        return
    for task in done - {told}:
        task.result()
