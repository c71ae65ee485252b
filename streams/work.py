"""The events that give jobs to workers: told once a lease was taken, and again where nobody has confirmed it."""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from runtime.database import jobs
from runtime.database.leased import LeasedJob
from runtime.database.thread import DatabaseThread
from runtime.kafka import Delivery, Publisher
from schemas import topics
from schemas.codec import child_traceparent
from schemas.errors import ServerUnreachable
from schemas.events import WorkEvent
from streams.instruments import Instruments

log = logging.getLogger(__name__)

#: Work events wait so long for company in a batch, and not as long as others do: a slot waits for each. At load they
#: come in chunks anyway.
LINGER_MS: Final = 0.5
#: A worker renews what it has within a third of its lease: what nobody renewed in half of it was not heard, or its
#: worker is in trouble. It is told again a few times before the lease ends.
UNCONFIRMED: Final = 1 / 2
LOOKS: Final = 6
#: Their requests come along, of up to a megabyte each.
BATCH_JOBS: Final = 100


def publish_work(
    publisher: Publisher,
    item: LeasedJob,
    partition: int,
    on_delivery: Callable[[Delivery], None] | None = None,
    *,
    again: bool = False,
) -> None:
    """Key: the job id. Id: tenant, job and epoch. A worker takes a duplicate once, by its lease's epoch.

    Raises:
        ServerUnreachable: the broker has been away so long that the publisher's buffer is full.
    """
    job, lease = item.job, item.lease
    publisher.publish(
        topics.WORK,
        WorkEvent(job=job, lease=lease, scheduled_at=item.scheduled_at, again=again),
        key=job.id,
        event_id=f"{job.tenant}/{job.id}/work/{lease.epoch}",
        traceparent=child_traceparent(job.traceparent),
        partition=partition,
        on_delivery=on_delivery,
    )


class Retelling:
    """Tells workers again of leases that they should have renewed: a crash, or Kafka, may have kept them from hearing.

    So nothing has to wait for its lease's end, nor loses an attempt, where it is the dispatcher that was lost.
    """

    def __init__(
        self, database: DatabaseThread, publisher: Publisher, instruments: Instruments, lease_s: float
    ) -> None:
        self._database = database
        self._publisher = publisher
        self._instruments = instruments
        self._lease_s = lease_s

    async def run(self) -> None:
        """Look a few times in the duration of a lease, until cancelled.

        Every process of the group does so, not only the one that dispatches: where that was killed, its partitions
        are nobody's for longer than a lease may last. A worker takes a job once, however often it is told.
        """
        while True:
            await asyncio.sleep(self._lease_s / LOOKS)
            await self.look()

    async def look(self) -> None:
        """Tell again what nobody has renewed."""
        after: tuple[str, str] | None = jobs.FIRST
        while after is not None:
            age_s = self._lease_s * UNCONFIRMED
            leases, after = await self._database.insist(jobs.unconfirmed, age_s, BATCH_JOBS, after)
            for item, partition in leases:
                log.warning("Worker %s is told again of job %s/%s.", item.lease.worker_id, item.job.tenant, item.job.id)
                try:
                    publish_work(self._publisher, item, partition, again=True)
                except ServerUnreachable:
                    return
                self._instruments.retold.labels(item.job.kind).inc()
