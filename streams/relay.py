"""Terminal events that a crash, or a broker that was away, left in the outbox are published here."""

import asyncio
import logging
from typing import Final

import msgspec

from runtime.database import outcomes
from runtime.database.outcomes import Unannounced, result_id
from runtime.database.thread import DatabaseThread
from runtime.kafka import Publisher
from schemas import topics
from streams.deliveries import Send, deliver
from streams.instruments import Instruments

log = logging.getLogger(__name__)

#: Whoever ended the job publishes its event at once; after so long, nobody does.
AGE_S: Final = 5.0
INTERVAL_S: Final = 1.0
BATCH_EVENTS: Final = 500


class Relay:
    """Empties the outbox, oldest first. It never pages by number: rows become visible out of order."""

    def __init__(self, database: DatabaseThread, publisher: Publisher, instruments: Instruments) -> None:
        self._database = database
        self._publisher = publisher
        self._instruments = instruments

    async def run(self) -> None:
        """Relay until cancelled."""
        while True:
            if await self.relay() < BATCH_EVENTS:
                await asyncio.sleep(INTERVAL_S)

    async def relay(self, older_than_s: float = AGE_S) -> int:
        """Publish what has waited for so long; how many events were delivered.

        1. Read the rows. A crash changes nothing.
        2. Publish them and wait for Kafka. A crash repeats them, with the same id.
        3. Drop the rows of those that were delivered.
        """
        rows = await self._database.insist(outcomes.unannounced, older_than_s, BATCH_EVENTS)
        delivered = await deliver([self._sender(row) for row in rows])
        gone = [(row.tenant, row.job_id) for row, done in zip(rows, delivered, strict=True) if done]
        if gone:
            log.info("Published %d results that their processes had left behind.", len(gone))
            await self._database.insist(outcomes.announced, gone)
            self._instruments.relayed.inc(len(gone))
        return len(gone)

    def _sender(self, row: Unannounced) -> Send:
        """Key: the job id. Id: the same for every copy of a job's end."""
        return lambda on_delivery: self._publisher.publish(
            topics.RESULTS,
            msgspec.Raw(row.event),
            key=row.job_id,
            event_id=result_id(row.tenant, row.job_id),
            traceparent=row.traceparent,
            on_delivery=on_delivery,
        )
