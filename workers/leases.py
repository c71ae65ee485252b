"""The worker's right to its partition and to its jobs, renewed for as long as it lives."""

import asyncio
import logging
from typing import Final

from runtime.database.thread import DatabaseThread
from runtime.database.workers import claim_partition, release_partition, renew_worker
from schemas.errors import HeadraceError, LeaseLost
from schemas.events import Lease
from workers.context import JobContext

log = logging.getLogger(__name__)

#: Renewals in the time of one lease: two may fail before anything is lost.
RENEWALS: Final = 3


class PartitionLost(HeadraceError):
    """Another worker may own the partition by now, and other attempts the jobs."""

    code = "partition_lost"


class Leases:
    """Holds the leases of one worker; made in a running event loop.

    Postgres' clock decides who holds a lease. The local one, which stands for nothing but time
    passed, only tells when a renewal that nobody answered has to be taken for a loss.
    """

    def __init__(self, database: DatabaseThread, worker_id: str, host: str, lease_s: float) -> None:
        self._database = database
        self._worker_id = worker_id
        self._host = host
        self._lease_s = lease_s
        self._partition = -1
        self._held: dict[Lease, JobContext] = {}
        self._loop = asyncio.get_running_loop()
        self._renewed_s = self._loop.time()

    async def claim(self) -> int:
        """Take a free partition of the work topic.

        Raises:
            NoFreePartition: as many workers as partitions are at work.
            ServerUnreachable: Postgres is away.
        """
        self._renewed_s = self._loop.time()
        self._partition = await self._database.run(claim_partition, self._worker_id, self._host, self._lease_s)
        return self._partition

    async def release(self) -> None:
        """Give the partition back, so that another worker need not wait until the lease has run out."""
        await self._database.run(release_partition, self._partition, self._worker_id)

    def __contains__(self, lease: Lease) -> bool:
        return lease in self._held

    def add(self, lease: Lease, ctx: JobContext) -> None:
        """Renew this lease too, and stop the job when it is lost."""
        self._held[lease] = ctx

    def drop(self, lease: Lease) -> None:
        """Renew this lease no more: its job has ended, or is left to run out."""
        self._held.pop(lease, None)

    async def keep(self) -> None:
        """Renew everything, until cancelled.

        Raises:
            PartitionLost: the partition is another worker's, or might be.
        """
        while True:
            await asyncio.sleep(self._lease_s / RENEWALS)
            await self.renew()

    async def renew(self) -> None:
        """Renew everything once, trying until the lease must have run out; lost jobs are stopped.

        Raises:
            PartitionLost: as ``keep``.
        """
        leases = tuple(self._held)
        asked_s = self._loop.time()
        try:
            async with asyncio.timeout(self._renewed_s + self._lease_s - asked_s):
                held = await self._database.insist(
                    renew_worker, self._partition, self._worker_id, leases, self._lease_s
                )
        except TimeoutError:
            raise PartitionLost(
                f"Postgres renewed no lease for {self._lease_s:g} s, so partition {self._partition} may be "
                "another worker's. This worker stops; start it again once Postgres answers."
            ) from None
        if held is None:
            raise PartitionLost(
                f"The lease of partition {self._partition} ran out before it was renewed, so another worker "
                "may have it. This worker stops; start it again."
            )
        # The statement began after this moment, so by Postgres' clock the leases last at least as long.
        self._renewed_s = asked_s
        for lease in leases:
            # One that has ended meanwhile is not renewed either, and needs no stopping.
            if lease not in held and lease in self._held:
                log.warning("job %s: epoch %d is no longer ours", lease.job_id, lease.epoch)
                self._held.pop(lease).stop(LeaseLost(f"Another attempt owns job {lease.job_id}."))

    def abandon(self) -> None:
        """Stop every job, as if all leases were lost."""
        for lease, ctx in self._held.items():
            ctx.stop(LeaseLost(f"The worker of job {lease.job_id} stops."))
