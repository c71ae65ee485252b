"""Tells workers, and the world, of the leases that were taken for them."""

import logging
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Final

from runtime.database.leased import LeasedJob
from runtime.kafka import Delivery, Publisher
from schemas.errors import ServerUnreachable
from schemas.events import State, StatusEvent
from schemas.topics import Kind
from streams.announcements import publish_status
from streams.credits import Assignment
from streams.instruments import Instruments
from streams.work import publish_work

log = logging.getLogger(__name__)

#: About 8 MB of text. The scheduler knows what a request costs, not its size.
BATCH_TOKENS: Final = 2_000_000


def batches(assignments: Iterable[Assignment]) -> Iterator[list[Assignment]]:
    """Assignments whose requests, of up to a megabyte each, are in memory and in a transaction together."""
    some: list[Assignment] = []
    tokens = 0
    for assignment in assignments:
        if some and tokens + assignment.job.cost > BATCH_TOKENS:
            yield some
            some, tokens = [], 0
        some.append(assignment)
        tokens += assignment.job.cost
    if some:
        yield some


class Orders:
    """``work`` publishes what workers wait for, ``publisher`` all else."""

    def __init__(self, publisher: Publisher, work: Publisher, instruments: Instruments) -> None:
        self._publisher = publisher
        self._work = work
        # Found once, not for each job.
        self._leases = {kind: instruments.leases.labels(kind) for kind in Kind}
        self._queued_s = {kind: instruments.queued_s.labels(kind) for kind in Kind}
        # Filled by the publisher's thread, emptied by the loop.
        self._deliveries: deque[tuple[Assignment, Delivery]] = deque()

    def give(self, assignment: Assignment, item: LeasedJob, *, again: bool) -> bool:
        """Publish the job's state, and tell its worker, perhaps not the first to do so; whether that may be under way.

        It may not where the broker has been away so long that no more waits for it. The worker is told later then.
        """
        job = item.job
        publish_status(self._publisher, _scheduled(item), job.traceparent)
        self._leases[job.kind].inc()
        self._queued_s[job.kind].observe((item.scheduled_at - job.queued_at).total_seconds())
        try:
            publish_work(
                self._work,
                item,
                assignment.partition,
                lambda delivery: self._deliveries.append((assignment, delivery)),
                again=again,
            )
        except ServerUnreachable as error:
            log.warning("The worker of job %s/%s is not told of it yet. %s", job.tenant, job.id, error)
            return False
        return True

    def reported(self) -> Iterator[tuple[Assignment, int | None]]:
        """What Kafka has said since the last time: where an order lies, or None where it was not delivered."""
        while self._deliveries:
            assignment, delivery = self._deliveries.popleft()
            if delivery.error is None:
                yield assignment, delivery.offset
            else:
                log.warning("Job %s was not delivered to its worker: %s", assignment.job.id, delivery.error)
                yield assignment, None


def _scheduled(item: LeasedJob) -> StatusEvent:
    return StatusEvent(
        job_id=item.job.id,
        tenant=item.job.tenant,
        kind=item.job.kind,
        state=State.SCHEDULED,
        attempt=item.job.attempt,
        at=item.scheduled_at,
        worker_id=item.lease.worker_id,
    )
