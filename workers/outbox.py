"""Terminal events on their way from Postgres to Kafka."""

import asyncio
from collections import deque
from typing import Final

from runtime.database.outcomes import Settlement, announced, result_id
from runtime.database.thread import DatabaseThread
from runtime.kafka import Delivery, Publisher
from schemas import topics
from schemas.codec import child_traceparent
from schemas.errors import ServerUnreachable

#: Deleting rows in batches of this age costs Postgres ten small transactions a second at most; the
#: relay looks only at rows that are seconds older.
SWEEP_S: Final = 0.1


class Outbox:
    """Publishes stored terminal events, and deletes their outbox rows once Kafka has them.

    An event that was not delivered keeps its row, and the relay publishes it later under the same id.
    """

    def __init__(self, database: DatabaseThread, publisher: Publisher) -> None:
        self._database = database
        self._publisher = publisher
        # Filled in the publisher's thread, emptied in the loop's: a deque needs no lock for that.
        self._delivered: deque[tuple[str, str]] = deque()

    def publish(self, settlement: Settlement, traceparent: str) -> None:
        """Hand one event to Kafka, keyed by its job; it does not wait, and may leave it to the relay."""
        event = settlement.event

        def delivered(delivery: Delivery) -> None:
            if delivery.error is None:
                self._delivered.append((event.tenant, event.job_id))

        try:
            self._publisher.publish(
                topics.RESULTS,
                event,
                key=event.job_id,
                event_id=result_id(event.tenant, event.job_id),
                traceparent=child_traceparent(traceparent),
                on_delivery=delivered,
            )
        except ServerUnreachable:
            return  # the relay will

    async def run(self) -> None:
        """Sweep until cancelled."""
        while True:
            await asyncio.sleep(SWEEP_S)
            await self.sweep()

    async def sweep(self) -> None:
        """Delete the rows of all events that were delivered so far; a repeat deletes nothing."""
        jobs = [self._delivered.popleft() for _ in range(len(self._delivered))]
        if jobs:
            await self._database.insist(announced, jobs)
