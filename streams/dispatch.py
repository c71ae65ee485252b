"""Agent of the workers' heartbeats: a job and a free slot make a lease and an event on the worker's partition.

One process of the group dispatches at a time: the one that was assigned the heartbeats' partition.
While it moves, two may; a job is leased once all the same, because the database decides.
"""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Final

import msgspec

from runtime.database import jobs, queue
from runtime.database.jobs import QueuedJob
from runtime.database.leased import LeasedJob
from runtime.database.thread import DatabaseThread
from runtime.kafka import Publisher
from schemas.codec import decode
from schemas.errors import printable
from schemas.events import Heartbeat
from schemas.topics import Kind
from streams.chunks import Chunk, Record
from streams.departures import Departures
from streams.instruments import Instruments
from streams.orders import Orders, batches
from streams.places import PLACES_JOBS, Places
from streams.scheduler import Assignment, Scheduler
from streams.sweep import Sweep
from streams.underway import Underway
from streams.work import UNCONFIRMED

log = logging.getLogger(__name__)

#: Workers send a heartbeat each second; one that missed this many gets no more jobs.
SILENT_S: Final = 4.0
#: How often the database is asked for jobs that came by others: the reaper, or another dispatcher's intake.
POLL_S: Final = 0.5
#: Jobs that are read at such a time; while there is room for more than the database has, many at once.
POLL_JOBS: Final = 500
REFILL_JOBS: Final = 5_000
#: Jobs that are leased in one transaction.
BATCH_JOBS: Final = 500


class Dispatch:
    """Gives jobs to workers for as long as this process owns the heartbeats' partition."""

    def __init__(
        self,
        database: DatabaseThread,
        publisher: Publisher,
        work: Publisher,
        instruments: Instruments,
        lease_s: float,
    ) -> None:
        self._database = database
        self._instruments = instruments
        self.lease_s = lease_s
        self._scheduler = Scheduler()
        self._sweeps = {kind: Sweep() for kind in Kind}
        self._owner = False
        self._heartbeats_from = 0
        self._wake = asyncio.Event()
        self._polled_s = 0.0
        self._orders = Orders(publisher, work, instruments)
        self._places = Places(publisher)
        self._departures = Departures(database)
        #: What a stop waits for.
        self.underway = Underway()
        #: Set once this process dispatches and has read the queue, or another process dispatches.
        self.ready = asyncio.Event()

    def pause(self) -> None:
        """The partitions move: dispatch nothing until they are assigned."""
        self._owner = False

    def assign(self, heartbeats_from: int | None) -> None:
        """The partitions are assigned: dispatch; or, where another process does (None), forget everything.

        Heartbeats before offset ``heartbeats_from`` are history. Whoever sent them may be gone, and who
        is not sends another within a second.
        """
        self._owner = heartbeats_from is not None
        if heartbeats_from is None:
            self._scheduler = Scheduler()
            self._sweeps = {kind: Sweep() for kind in Kind}
            self.ready.set()
        else:
            self._heartbeats_from = heartbeats_from
        self._polled_s = 0.0
        self._show()
        self._wake.set()

    def add(self, new: Sequence[QueuedJob]) -> None:
        """Let new jobs wait; where another process dispatches, it finds them in the database."""
        if new and self._owner:
            self._scheduler.add(new, asyncio.get_running_loop().time())
            self._wake.set()

    def place(self, kind: Kind, coming: Sequence[QueuedJob]) -> list[Assignment]:
        """Workers for jobs that are about to be stored: for those that need not wait, as nobody does.

        Their leases are then taken as they are stored, and ``hand_out`` is told which. A crash in between leaves
        nothing behind.
        """
        return self._scheduler.place(kind, coming, asyncio.get_running_loop().time()) if self._owner else []

    def forget(self, left: Iterable[tuple[str, str]]) -> None:
        """Let jobs, given as (tenant, id), wait no more: they have ended, or are paused.

        One that is on its way to a worker by now is not leased.
        """
        for tenant, job_id in left:
            self._scheduler.remove(tenant, job_id)

    async def heartbeats(self, chunk: Chunk) -> None:
        """Take the workers' free slots. Nothing is kept, so a repeat changes nothing."""
        self._take_deliveries()
        for record in chunk.records:
            self._instruments.heartbeats.labels(self._heartbeat(record)).inc()
        self._wake.set()

    async def run(self) -> None:
        """Dispatch until cancelled."""
        while True:
            if self._owner:
                await self._dispatch()
                self.ready.set()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), POLL_S)
            self._wake.clear()

    async def _dispatch(self) -> None:
        loop = asyncio.get_running_loop()
        now_s = loop.time()
        if await self._departures.settle():
            self._polled_s = 0.0
        for worker_id in self._scheduler.remove_silent(now_s - SILENT_S):
            log.warning("Worker %s sends no heartbeats and gets no more jobs.", worker_id)
        self._scheduler.release_lost(now_s - self.lease_s)
        if now_s - self._polled_s >= POLL_S:
            self._polled_s = now_s
            await self._poll(Kind, POLL_JOBS)
        while self._owner:
            self._take_deliveries()
            wanting = [kind for kind in Kind if self._scheduler.wants_more(kind)]
            await self._poll(wanting, REFILL_JOBS)
            assignments = self._scheduler.next_assignments(BATCH_JOBS, loop.time())
            for some in batches(assignments):
                await self._lease(some)
            if not (assignments or wanting):
                break
            if loop.time() - now_s >= POLL_S:
                # There is more to do, but what is done once in a while is due too.
                self._wake.set()
                break
        self._show()
        if self._places.due(now_s):
            self._places.tell(self._scheduler.outlooks(PLACES_JOBS), now_s)

    async def _poll(self, kinds: Iterable[Kind], most: int) -> None:
        # Where the partitions move meanwhile, another scheduler begins with another reading.
        scheduler, sweeps = self._scheduler, self._sweeps
        for kind in kinds:
            sweep = sweeps[kind]
            page = await self._database.insist(queue.queued, kind, sweep.old, most)
            sweep.went_on(page)
            scheduler.refill(kind, page.jobs, asyncio.get_running_loop().time(), complete=page.last)
            if not page.last and sweep.new is not None:
                page = await self._database.insist(queue.queued, kind, sweep.new, most)
                sweep.kept_up(page)
                scheduler.add(page.jobs, asyncio.get_running_loop().time())

    async def _lease(self, assignments: Sequence[Assignment]) -> None:
        """Turn assignments into leases and events.

        1. The leases are taken. After a crash, others tell the workers of them (``work``).
        2. The states and the events are published. As above, where Kafka does not take one.
        """
        pairs = [(assignment.job, assignment.worker_id) for assignment in assignments]

        async def take() -> None:
            asked_s = asyncio.get_running_loop().time()
            self.hand_out(assignments, await self._database.insist(jobs.lease, pairs, self.lease_s), asked_s)

        await self.underway.finish(take())

    def hand_out(self, assignments: Sequence[Assignment], leased: Sequence[LeasedJob], asked_s: float) -> None:
        """Tell the workers of the leases that were taken for assignments, and take back those that were not.

        Where the answer was long in coming, since ``asked_s``, others may have told them: then they ask Postgres before
        they begin.
        """
        again = asyncio.get_running_loop().time() - asked_s > self.lease_s * UNCONFIRMED / 2
        by_job = {(item.job.tenant, item.job.id): item for item in leased}
        for assignment in assignments:
            item = by_job.get((assignment.job.tenant, assignment.job.id))
            if item and assignment.worker_id in self._departures:
                self._departures.left(assignment.worker_id)
                self._wake.set()
            elif item is None:
                # It was given to a worker before, by another dispatcher or from an older list; or it is not new.
                self._scheduler.release(assignment)
            elif not self._orders.give(assignment, item, again=again):
                self._scheduler.release(assignment)

    def _take_deliveries(self) -> None:
        for assignment, offset in self._orders.reported():
            if offset is None:
                self._scheduler.release(assignment)
            else:
                self._scheduler.sent(assignment, offset)

    def _heartbeat(self, record: Record) -> str:
        if record.offset < self._heartbeats_from:
            return "history"
        try:
            beat: Heartbeat = decode(Heartbeat, record.value or b"")
        except msgspec.DecodeError as error:
            log.warning("A heartbeat at offset %d is not readable: %s", record.offset, printable(str(error)))
            return "malformed"
        if beat.leaving:
            self._departures.left(beat.worker_id)
        return "taken" if self._scheduler.heartbeat(beat, asyncio.get_running_loop().time()) else "outdated"

    def _show(self) -> None:
        for kind in Kind:
            self._instruments.waiting.labels(kind).set(self._scheduler.waiting(kind))
            self._instruments.free.labels(kind).set(self._scheduler.free(kind))
        self._instruments.workers.set(self._scheduler.workers)
