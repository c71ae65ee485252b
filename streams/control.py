"""Agent of the control topic: clients' wishes about their jobs, and the deadlines of those that wait.

What a wish comes to is decided in ``runtime.database.wishes``, and written in Postgres; here it is read,
and whoever has to hear of it is told.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from math import inf
from typing import Final

from msgspec.structs import replace

from runtime.database import control
from runtime.database.admissions import Source
from runtime.database.consequences import Consequence
from runtime.database.thread import DatabaseThread
from runtime.database.wishes import Wish
from runtime.kafka import Publisher
from schemas import topics
from schemas.codec import child_traceparent, decode_control
from schemas.errors import RequestRefused, ServerUnreachable, shown
from schemas.events import FINAL_STATES, STOP_TYPE, ControlEvent, StopEvent
from streams.admission import traceparent_of
from streams.announcements import publish_status
from streams.chunks import Chunk, Record
from streams.instruments import Instruments
from streams.quotas import Quotas

log = logging.getLogger(__name__)

#: How often jobs are looked for whose deadline has passed, or that came back with a wish: three
#: statements that find their few rows by indexes of their own.
SWEEP_S: Final = 1.0
BATCH_JOBS: Final = 500

#: Told which jobs, as (tenant, id), wait for a worker no more.
OnLeft = Callable[[Sequence[tuple[str, str]]], None]


class Control:
    """Carries out wishes; the processes of the group may all do so, for each job is locked by one.

    ``on_left`` is told of jobs that wait no more. One that is not told is protected all the same: a job
    that has ended or is paused is not leased.
    """

    def __init__(
        self,
        database: DatabaseThread,
        publisher: Publisher,
        instruments: Instruments,
        quotas: Quotas,
        on_left: OnLeft,
    ) -> None:
        self._database = database
        self._publisher = publisher
        self._instruments = instruments
        self._quotas = quotas
        self._on_left = on_left
        self._swept_s = -inf

    async def apply(self, chunk: Chunk) -> None:
        """Carry out the wishes of a chunk; when this returns, the chunk may be acknowledged.

        1. Read each record. What is no wish is logged and counted: there is nothing to be replayed, its
           sender asks again.
        2. One transaction decides on all, and writes it with where they were read. A crash leaves the chunk to be
           read again, and finds its own work done; so does a process that comes late, when the partition is another's.
        3. Tell the scheduler, the workers and the world. A crash loses that: jobs are not leased against
           their row, workers hear of wishes when they renew their leases, and another state follows.
        """
        wishes = self._within_quotas(wish for record in chunk.records if (wish := self._read(record)))
        if wishes:
            self._tell(await self._database.insist(control.apply, wishes, _now))

    async def run(self) -> None:
        """Sweep until cancelled."""
        while True:
            await self.sweep()
            await asyncio.sleep(SWEEP_S)

    async def sweep(self) -> None:
        """End jobs whose deadline has passed while they wait, and carry out what was noted of those that came back."""
        begun_s = time.monotonic()
        self._tell(await self._database.insist(control.sweep, _now, BATCH_JOBS, begun_s - self._swept_s))
        self._swept_s = begun_s

    def _within_quotas(self, wishes: Iterable[Wish]) -> list[Wish]:
        """The wishes without the retries of tenants that have as many jobs waiting as they may have."""
        more: Counter[str] = Counter()
        kept: list[Wish] = []
        for wish in wishes:
            tenant, job_id = wish.key
            retry = wish.event.action == "retry"
            if retry and (refusal := self._quotas.refusal(tenant, more[tenant])):
                log.warning("Job %s/%s is not submitted again. %s", tenant, job_id, refusal)
                self._instruments.wishes.labels(wish.event.action, refusal.code).inc()
                continue
            more[tenant] += retry
            kept.append(wish)
        return kept

    def _read(self, record: Record) -> Wish | None:
        headers = {name: value for name, value in record.headers if value is not None}
        try:
            event = decode_control(record.value, headers)
        except RequestRefused as refusal:
            place = f"{record.topic}-{record.partition}-{record.offset}"
            log.warning("%s is no wish: %s: %s It is %s.", place, refusal.code, refusal, shown(record.value))
            self._instruments.wishes.labels("unknown", refusal.code).inc()
            return None
        source = Source(record.topic, record.partition, record.offset)
        return Wish(_storable(event), traceparent_of(record), source, record.timestamp)

    def _tell(self, consequences: Sequence[Consequence]) -> None:
        left = [(item.tenant, item.job_id) for item in consequences if item.left_queue]
        if left:
            self._on_left(left)
        for item in consequences:
            self._instruments.wishes.labels(item.action, item.fate).inc()
            log.info("%s of job %s/%s: %s", item.action, item.tenant, item.job_id, item.reason or item.fate)
            if item.stop and item.partition is not None:
                self._stop(item.stop, item.partition, item.traceparent)
            if item.status and item.status.state not in FINAL_STATES:
                publish_status(self._publisher, item.status, item.traceparent)

    def _stop(self, stop: StopEvent, partition: int, traceparent: str) -> None:
        """Key: the job id. Id: tenant, job, epoch and action. A duplicate stops what has stopped.

        Where the job was leased just now, it may lie before the job itself: the worker remembers it.
        """
        try:
            self._publisher.publish(
                topics.WORK,
                stop,
                key=stop.lease.job_id,
                event_id=f"{stop.lease.tenant}/{stop.lease.job_id}/stop/{stop.lease.epoch}/{stop.control.action}",
                traceparent=child_traceparent(traceparent),
                partition=partition,
                event_type=STOP_TYPE,
            )
        except ServerUnreachable as error:
            log.warning("Job %s is stopped once its worker renews its lease. %s", stop.lease.job_id, error)


def _now() -> datetime:
    return datetime.now(UTC)


def _storable(event: ControlEvent) -> ControlEvent:
    """The wish without NUL characters in its reason: Postgres can't look into JSON that has one."""
    return replace(event, reason=event.reason.replace("\0", "")) if event.reason else event
