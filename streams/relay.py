"""The one writer of the results topic: terminal events and final states from the outbox to Kafka, in one copy.

The process that dispatches relays too. A batch of results is one Kafka transaction, its rows are dropped after it,
and who takes over asks the topic which of the rows it has. So a consumer that reads committed records sees each
result once, whoever crashes when.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

from msgspec import Struct

from runtime.database import outbox
from runtime.database.outbox import Position, Waiting, result_id
from runtime.database.thread import DatabaseThread
from runtime.kafka_transactions import LogTaken, Outgoing
from schemas import topics
from schemas.codec import Envelope, child_traceparent, decode, encode
from schemas.errors import ServerUnreachable
from schemas.events import StatusEvent
from schemas.topics import Kind, Topic
from streams.instruments import Instruments

log = logging.getLogger(__name__)

#: The transactional id, and the group whose offset tells where the last batch lies.
NAME: Final = "headrace-relay"
#: Whoever stores results wakes the relay; this bounds the wait after a wake that was lost.
INTERVAL_S: Final = 0.25
#: The wait after results: more follow, and their workers tell of them less often than they store some.
BUSY_S: Final = 0.02
GATHER_S: Final = 0.005
RETRY_S: Final = 1.0
#: One Kafka transaction; a single event may be as large as the topic allows.
BATCH_EVENTS: Final = 1_000
BATCH_BYTES: Final = 8_388_608
#: How far the clocks of a row and of its event's record may be apart.
CLOCKS_APART: Final = timedelta(hours=1)


class _Reason(Struct):
    message: str


class _Ended(Struct):
    """What the final state needs of a result; the rest may be of a release that this one can't read."""

    kind: Kind
    attempt: int
    finished_at: datetime
    error: _Reason | None = None


class ResultLog(Protocol):
    """Where batches go; as ``TransactionalLog``."""

    async def open(self, source: str) -> bool:
        """Take the log over; whether the last batch came from ``source``."""

    def landed(self, since: datetime) -> AsyncIterator[Sequence[str]]:
        """The ids of all that lies in the topic of the last batch, and of later ones."""

    async def append(self, records: Sequence[Outgoing]) -> None:
        """Add records, all or none."""


class Relay:
    """Empties the outbox while this process owns it, in the order of the transactions that filled it."""

    def __init__(self, database: DatabaseThread, results: ResultLog, instruments: Instruments) -> None:
        self._database = database
        self._results = results
        self._instruments = instruments
        self._owner = False
        #: Up to where the outbox was published and can't change; None until the log is open.
        self._position: Position | None = None
        self._wake = asyncio.Event()

    def assign(self, *, owner: bool) -> None:
        """Relay from now on, or leave it to another process."""
        self._owner = owner
        self._position = None
        self._wake.set()

    def wake(self) -> None:
        """There may be something in the outbox."""
        self._wake.set()

    async def run(self) -> None:
        """Relay until cancelled."""
        while True:
            wait_s = await self._turn() if self._owner else INTERVAL_S
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._wake.wait()
            self._wake.clear()
            # Results that are stored within this time share a transaction of Kafka's.
            await asyncio.sleep(GATHER_S)

    async def _turn(self) -> float:
        """Publish what there is; how long to wait for more."""
        wait_s = INTERVAL_S
        try:
            while self._owner:
                # The partitions may move during each of these waits, and then the position is forgotten. If another
                # process has taken the log over, the next batch is refused.
                position = self._position
                if position is None:
                    await self._open()
                    position = self._position = Position()
                batch = await self._database.insist(outbox.waiting, position, BATCH_EVENTS, BATCH_BYTES)
                if not batch.rows:
                    return wait_s
                await self._publish(batch.rows)
                self._position, wait_s = batch.through, BUSY_S
        except LogTaken as taken:
            # While the partitions move, two processes may think that they are the one.
            log.warning("%s If I still dispatch in %g s, I take it back.", taken, RETRY_S)
            self._position = None
            return RETRY_S
        except ServerUnreachable as error:
            log.warning("%s Results wait in the outbox.", error)
            self._position = None
            return RETRY_S
        return INTERVAL_S

    async def _publish(self, rows: Sequence[Waiting]) -> None:
        """Publish rows.

        1. One Kafka transaction: the results and the final states. A crash before its end leaves neither.
        2. The rows are dropped. A crash before leaves rows that the topic has: the next one to open the log sees that.
        """
        await self._results.append([record for row in rows for record in _records(row)])
        await self._database.insist(outbox.published, rows)
        self._instruments.relayed.inc(len(rows))

    async def _open(self) -> None:
        """Take the log over, and drop the rows that it has: what is left was never published."""
        database = await self._database.insist(outbox.identity)
        if not await self._results.open(database):
            # The rows' transactions may have been counted by another cluster: its numbers may be far beyond ours.
            await self._database.insist(outbox.renumber)
        oldest = await self._database.insist(outbox.oldest)
        if oldest is not None:
            async for event_ids in self._results.landed(oldest - CLOCKS_APART):
                await self._database.insist(outbox.landed, event_ids)


def _records(row: Waiting) -> tuple[Outgoing, Outgoing]:
    """The result and the final state. Key: the job id. Ids: the same for every copy of a job's end."""
    tenant, job_id = row.position.tenant, row.position.job_id
    event: _Ended = decode(_Ended, row.event)
    status = StatusEvent(
        job_id=job_id,
        tenant=tenant,
        kind=event.kind,
        state=row.state,
        attempt=event.attempt,
        at=event.finished_at,
        reason=event.error.message if event.error else None,
    )
    return (
        _record(topics.RESULTS, row, result_id(tenant, job_id), row.event),
        _record(topics.STATUS, row, f"{tenant}/{job_id}/end", encode(status)),
    )


def _record(topic: Topic, row: Waiting, event_id: str, value: bytes) -> Outgoing:
    job_id = row.position.job_id
    envelope = Envelope(
        id=event_id,
        source="headrace/dispatcher",
        type=topic.name,
        subject=job_id,
        time=datetime.now(UTC),
        traceparent=child_traceparent(row.traceparent),
    )
    return Outgoing(topic.name, job_id.encode(), value, envelope.headers())
