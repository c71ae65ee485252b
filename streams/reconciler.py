"""Looks for requests that Kafka has and Postgres has not, whatever the consumer group's offsets say.

Offsets can be wrong: committed too far by a bug or by hand, or standing still while nothing is fetched. So each
record that was there a round ago is compared with what should have become of it: a row, or a dead letter.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, Protocol

from runtime.database import reconciling
from runtime.database.reconciling import Place
from runtime.database.thread import DatabaseThread
from schemas.errors import ServerUnreachable
from schemas.topics import DEAD_LETTERS, REQUESTS, Kind, kind_of
from streams.admission import confirm, judge
from streams.chunks import Chunk, Record
from streams.instruments import Instruments

log = logging.getLogger(__name__)

#: The wait after an outage of Kafka.
RETRY_S: Final = 10.0


#: Partition and offset of the requests of a kind that have their dead letters.
Letters = dict[Kind, frozenset[tuple[int, int]]]


class RequestLog(Protocol):
    """The request topics and their dead letters, read beside the consumer group."""

    async def ends(self) -> Mapping[Place, int]:
        """The offset that the next record of each partition will get; those of dead letters are asked for first."""

    async def committed(self) -> Mapping[Place, int]:
        """Up to where the consumer group has read each partition of the request topics; 0 where it has not."""

    def records(self, place: Place, start: int, end: int) -> AsyncIterator[Sequence[Record]]:
        """The records of a partition from ``start`` up to ``end``, in chunks; those that are gone are left out."""


class Reconciler:
    """Compares, on start and on a timer, in the process that dispatches; ``admit`` is intake's."""

    def __init__(
        self,
        database: DatabaseThread,
        requests: RequestLog,
        admit: Callable[[Kind, Chunk], Awaitable[None]],
        instruments: Instruments,
    ) -> None:
        self._database = database
        self._requests = requests
        self._admit = admit
        self._instruments = instruments
        self._owner = asyncio.Event()

    def assign(self, *, owner: bool) -> None:
        """Compare from now on, or leave it to another process."""
        if owner:
            self._owner.set()
        else:
            self._owner.clear()

    async def run(self, interval_s: float) -> None:
        """Compare every ``interval_s`` until cancelled; what is younger is left to intake."""
        while True:
            await self._owner.wait()
            try:
                await self._rounds(interval_s)
            except ServerUnreachable as error:
                log.warning("%s The comparison of requests with jobs begins again later.", error)
                await asyncio.sleep(RETRY_S)

    async def _rounds(self, interval_s: float) -> None:
        committed = await self._requests.committed()
        while self._owner.is_set():
            ends = await self._requests.ends()
            await asyncio.sleep(interval_s)
            now_committed = await self._requests.committed()
            await self.compare(_due(ends, committed, now_committed), now_committed)
            committed = now_committed

    async def compare(self, ends: Mapping[Place, int], read: Mapping[Place, int]) -> int:
        """Admit what is not admitted before ``ends``; how many records were missed.

        ``read`` is up to where the group has read, by its own account. What lies beyond was not missed: the group waits
        for room in the queue, or for a server, or stands still.

        1. Records without a row, or without their dead letter, go through intake once more. It knows what it has
           seen, so a record that intake takes meanwhile does no harm; at worst its dead letter comes twice.
        2. The offsets are saved. A crash before compares again.
        """
        begins = await self._database.insist(reconciling.positions)
        letters: Letters = {}
        missed = 0
        for kind, topic in REQUESTS.items():
            for place, end in ends.items():
                if place[0] != topic.name:
                    continue
                async for records in self._requests.records(place, begins.get(place, 0), end):
                    lost = await self._lost(kind, records, begins, letters)
                    count = sum(record.offset < read.get(place, 0) for record in lost)
                    missed += count
                    if count:
                        log.error("%d requests of %s-%d had been missed.", count, *place)
                        self._instruments.missed.labels(kind).inc(count)
                    if lost:
                        await self._admit(kind, Chunk(lost))
        await self._database.insist(reconciling.save_positions, ends)
        return missed

    async def _lost(
        self, kind: Kind, records: Sequence[Record], begins: Mapping[Place, int], letters: Letters
    ) -> list[Record]:
        """The records that have neither a row nor the dead letter that they should have."""
        verdicts = [judge(kind, record, datetime.now(UTC)) for record in records]
        fates = await self._database.insist(
            reconciling.compare, [verdict.admission for verdict in verdicts if verdict.admission]
        )
        answers = iter(fates)
        lost: list[Record] = []
        for verdict in verdicts:
            refusal = verdict.refusal
            if verdict.admission:
                fate = next(answers)
                if fate is None:
                    lost.append(verdict.record)
                    continue
                refusal = confirm(verdict, fate).refusal
            if refusal is None:
                continue
            if kind not in letters:
                letters[kind] = await self._letters(kind, begins)
            if (verdict.record.partition, verdict.record.offset) not in letters[kind]:
                lost.append(verdict.record)
        return lost

    async def _letters(self, kind: Kind, begins: Mapping[Place, int]) -> frozenset[tuple[int, int]]:
        """Whose dead letters are there: a letter lies behind its record's round, so older ones need not be read."""
        found: set[tuple[int, int]] = set()
        place = (DEAD_LETTERS[kind].name, 0)
        end = (await self._requests.ends())[place]
        async for records in self._requests.records(place, begins.get(place, 0), end):
            found.update(origin for record in records if (origin := _origin(record)))
        return frozenset(found)


def _due(
    ends: Mapping[Place, int], committed: Mapping[Place, int], now_committed: Mapping[Place, int]
) -> dict[Place, int]:
    """Up to where to compare: what was there a round ago, but where the group works at a backlog, what it has done."""
    due = dict(ends)
    for place, reached in now_committed.items():
        if committed.get(place, 0) < reached < ends[place]:
            due[place] = reached
            # Some of the records that are left for later may have their letters by now.
            due.pop((DEAD_LETTERS[kind_of(place[0])].name, 0), None)
    return due


def _origin(letter: Record) -> tuple[int, int] | None:
    """Partition and offset of a dead letter's request."""
    headers = {name: value for name, value in letter.headers if value is not None}
    try:
        return int(headers["dlq.partition"]), int(headers["dlq.offset"])
    except (KeyError, ValueError):
        return None
