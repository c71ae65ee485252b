"""The worker's right to its partition and to its jobs, renewed for as long as it lives."""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Final, assert_never

from runtime.database.jobs import give_back
from runtime.database.thread import DatabaseThread
from runtime.database.wishes import cancelled, paused
from runtime.database.workers import claim_partition, release_partition, renew_worker
from schemas.errors import HeadraceError, LeaseLost
from schemas.events import ControlEvent, Lease, State, WorkEvent
from workers.context import JobContext

log = logging.getLogger(__name__)

#: Renewals in the time of one lease: two may come late before anything is lost.
RENEWALS: Final = 3
#: Wishes about jobs that are not here: of those, most have ended, and a few are still to come.
EARLY_WISHES: Final = 1_000


class PartitionLost(HeadraceError):
    """Another worker owns the partition by now."""

    code = "partition_lost"


class Leases:
    """Holds the leases of one worker.

    Postgres decides who holds a lease, and nobody else: while it gives no answer it gives no lease away
    either, so the worker goes on with its jobs. What it would write waits for Postgres, too.

    ``renewals`` is a thread of their own: behind a large batch of results that takes Postgres long, every lease of the
    worker would run out.
    """

    def __init__(
        self, database: DatabaseThread, renewals: DatabaseThread, worker_id: str, host: str, lease_s: float
    ) -> None:
        self._database = database
        self._renewals = renewals
        self._worker_id = worker_id
        self._host = host
        self._lease_s = lease_s
        self._partition = -1
        self._held: dict[Lease, JobContext] = {}
        #: Leases whose rows a statement of this worker's is about to lock.
        self._ending: set[Lease] = set()
        self._renewing = asyncio.Lock()
        self._early: OrderedDict[Lease, ControlEvent] = OrderedDict()

    async def claim(self) -> int:
        """Take a free partition of the work topic.

        Raises:
            NoFreePartition: as many workers as partitions are at work.
            ServerUnreachable: Postgres is away.
        """
        self._partition = await self._renewals.run(claim_partition, self._worker_id, self._host, self._lease_s)
        return self._partition

    async def release(self) -> None:
        """Give the partition back, so that another worker need not wait until the lease has run out."""
        await self._renewals.run(release_partition, self._partition, self._worker_id)

    async def give_back(self, leases: Sequence[Lease], state: State, delay_s: float = 0.0) -> set[Lease]:
        """End leases before their jobs have ended, which are queued again or paused; those that were still held.

        The jobs go on after ``delay_s`` at the earliest. Insists until Postgres answers. An answer that was lost makes
        a lease look as if it was not held.
        """
        for lease in leases:
            self.drop(lease)
        async with self.ending(leases):
            return await self._database.insist(give_back, leases, state, delay_s)

    @asynccontextmanager
    async def ending(self, leases: Collection[Lease]) -> AsyncIterator[None]:
        """Renew these leases no more, until the end of the block, whose statement locks their rows.

        The renewal of all the others would wait for it, and both for each other where they lock in another order.
        """
        async with self._renewing:  # one that has begun may be about to lock them
            self._ending.update(leases)
        try:
            yield
        finally:
            self._ending.difference_update(leases)

    def __contains__(self, lease: Lease) -> bool:
        return lease in self._held

    def add(self, lease: Lease, ctx: JobContext) -> None:
        """Renew this lease too, and stop the job when it is lost, or when its client wants that or wanted it before."""
        self._held[lease] = ctx
        if wish := self._early.pop(lease, None):
            self.stop(lease, wish)

    def stop(self, lease: Lease, wish: ControlEvent) -> None:
        """Have a job stop as its client wants it; where the job is not here yet, once it comes.

        A repeat changes nothing.
        """
        ctx = self._held.get(lease)
        if ctx is None:
            self._early[lease] = wish
            if len(self._early) > EARLY_WISHES:
                self._early.popitem(last=False)
            return
        match wish.action:
            case "cancel":
                ctx.stop(cancelled(wish))
            case "pause":
                ctx.stop(paused(wish))
            case "resume" | "retry":
                pass  # a pause that was withdrawn: a job that it has stopped already is queued when it comes back
            case unknown:
                assert_never(unknown)

    def drop(self, lease: Lease) -> None:
        """Renew this lease no more: its job has ended, or is left to run out."""
        self._held.pop(lease, None)

    async def keep(self) -> None:
        """Renew everything, until cancelled.

        Raises:
            PartitionLost: the partition is another worker's.
        """
        while True:
            await asyncio.sleep(self._lease_s / RENEWALS)
            await self.renew()

    async def renew(self) -> None:
        """Renew everything once, trying until Postgres answers; jobs that are another attempt's are stopped.

        Raises:
            PartitionLost: as ``keep``.
        """
        if not await self._renew(tuple(self._held)):
            raise PartitionLost(
                f"Partition {self._partition} is another worker's: its lease ran out before it was renewed. "
                "This worker stops; start it again."
            )

    async def confirm(self, work: WorkEvent, ctx: JobContext) -> None:
        """Ask whether a job that was long on its way, or was told again, is still ours, before it begins.

        It is stopped if not. Two machines' clocks only tell whether to ask. The answer is Postgres', and is waited for.
        """
        age_s = abs((datetime.now(UTC) - work.scheduled_at).total_seconds())
        if work.again or age_s > self._lease_s / RENEWALS:
            await self._renew((work.lease,))
            if work.lease not in self._held:
                # Lost, or dropped meanwhile.
                ctx.stop(LeaseLost(f"Job {work.lease.job_id} is no longer this worker's."))

    async def _renew(self, leases: Sequence[Lease]) -> bool:
        """Renew leases, and stop the jobs whose leases are lost; False where the partition is another worker's."""
        async with self._renewing:
            asked = [lease for lease in leases if lease not in self._ending]
            answer = await self._renewals.insist(renew_worker, self._partition, self._worker_id, asked, self._lease_s)
        held = answer or {}
        for lease in asked:
            # One that has ended meanwhile is not renewed either, and needs no stopping.
            if lease not in self._held:
                continue
            if wish := held.get(lease):
                self.stop(lease, wish)
            if lease not in held:
                log.warning("job %s: epoch %d is no longer ours", lease.job_id, lease.epoch)
                self._held.pop(lease).stop(LeaseLost(f"Another attempt owns job {lease.job_id}."))
        return answer is not None

    def abandon(self) -> None:
        """Stop every job, as if all leases were lost."""
        for lease, ctx in self._held.items():
            ctx.stop(LeaseLost(f"The worker of job {lease.job_id} stops."))
