"""Parts of the dispatcher, each with one thing wrong."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from runtime.database import outbox, outcomes
from runtime.database.leased import LeasedJob
from runtime.database.outbox import Waiting
from runtime.database.outcomes import ExpiredLease
from schemas.codec import decode, encode
from schemas.errors import ServerUnreachable
from schemas.events import Heartbeat, State
from schemas.results import ResultEvent
from schemas.topics import Kind
from streams.chunks import Chunk, Record
from streams.control import Control
from streams.dispatch import Dispatch
from streams.intake import Intake
from streams.reaper import BATCH_JOBS, Reaper, decide
from streams.relay import Relay
from streams.scheduler import Assignment
from tests.simulation import statements
from tests.simulation.group import Membership
from tests.simulation.tables import Tables, Transaction

#: An offset that no partition has.
FAR = 2**40


class CommitsFirst(Membership):
    """Commits a chunk, then handles it."""

    async def _handle(self, topic: str, chunk: Chunk) -> None:
        last = chunk.records[-1]
        self._reading.handled[topic, last.partition] = last.offset + 1
        self._commit()
        await super()._handle(topic, chunk)


class AcknowledgesErrors(Membership):
    """Goes on after an error, as Faust does (faust-streaming#189)."""

    async def _handle(self, topic: str, chunk: Chunk) -> None:
        async with self._turns[topic]:
            try:
                await self._agents[topic](chunk)
            except ServerUnreachable:
                return


class TriesOnce(Intake):
    """Raises where Postgres is away."""

    def __init__(self, database: Any, *others: Any) -> None:
        database.in_turn = database.run
        super().__init__(database, *others)


class JumpsTheQueue(Intake):
    """Lets the next chunk go first where one has to be tried again."""

    def __init__(self, database: Any, *others: Any) -> None:
        database.in_turn = database.insist
        super().__init__(database, *others)


class GivesCreditTwice(Dispatch):
    """Takes a slot as free again once its job is on the way."""

    def hand_out(self, assignments: Sequence[Assignment], leased: Sequence[LeasedJob], asked_s: float) -> None:
        super().hand_out(assignments, leased, asked_s)
        for assignment in assignments:
            self._scheduler.release(assignment)


class IgnoresPositions(Dispatch):
    """Believes that each worker has taken all that it was sent."""

    def _heartbeat(self, record: Record) -> str:
        beat: Heartbeat = decode(Heartbeat, record.value or b"")
        value = encode(msgspec.structs.replace(beat, position=FAR))
        return super()._heartbeat(_Rewritten(record.offset, value))  # type: ignore[arg-type]


@dataclass(frozen=True)
class _Rewritten:
    offset: int
    value: bytes


class ForgetsFailedSends(Dispatch):
    """Never hears of a job again that Kafka did not take."""

    def _take_deliveries(self) -> None:
        for assignment, offset in self._orders.reported():
            if offset is not None:
                self._scheduler.sent(assignment, offset)
        # Nor is it found by its age.
        vars(self._scheduler)["release_lost"] = lambda _before_s: None


class BlocksEveryLane(Dispatch):
    """Gives nothing to anybody while a kind that has jobs has no slot."""

    async def _dispatch(self) -> None:
        if not any(self._scheduler.waiting(kind) and self._scheduler.free(kind) <= 0 for kind in Kind):
            await super()._dispatch()


class CountsInMemory(Reaper):
    """Forgets how often a job was lost when it is restarted."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self._lost: Counter[tuple[str, str]] = Counter()

    async def reap(self) -> int:
        return len(await self._database.insist(outcomes.reap, self._decide, BATCH_JOBS))

    def _decide(self, item: ExpiredLease) -> ResultEvent | float:
        key = (item.lease.tenant, item.lease.job_id)
        self._lost[key] += 1
        return decide(replace(item, lost=self._lost[key]))


class EndsWhatItSaw(Reaper):
    """Looks for dead leases in one transaction, and ends them in a later one whatever has become of them."""

    async def reap(self) -> int:
        found = await self._database.insist(look, BATCH_JOBS)  # type: ignore[arg-type]
        await asyncio.sleep(1.0)
        await self._database.insist(queue_again, found)  # type: ignore[arg-type]
        return len(found)


def look(tables: Tables, tx: Transaction, most: int) -> list[ExpiredLease]:
    """The leases that ran out."""
    return statements.expired(tables, tx, most)


def queue_again(tables: Tables, tx: Transaction, found: Sequence[ExpiredLease]) -> None:
    """Queue jobs again without looking at their leases."""
    for item in found:
        row = tables.jobs[item.lease.tenant, item.lease.job_id]
        row.state, row.worker_id, row.lease_expires_at = State.QUEUED.value, None, None
        row.attempt, row.available_at = row.attempt + 1, tx.now


class DropsFirst(Relay):
    """Deletes rows, then publishes them."""

    async def _publish(self, rows: Sequence[Waiting]) -> None:
        await self._database.insist(outbox.published, rows)
        await super()._publish(rows)


class DiesInStorms(Relay):
    """Has no word for a Kafka that is away."""

    async def _publish(self, rows: Sequence[Waiting]) -> None:
        try:
            await super()._publish(rows)
        except ServerUnreachable as error:
            raise KeyError("results") from error


class LooksForNothing(Relay):
    """Takes every row that is there for one that was never published."""

    async def _open(self) -> None:
        await self._results.open("model")


class TrustsTheMark(Relay):
    """Takes a batch for published once its mark is there."""

    async def _publish(self, rows: Sequence[Waiting]) -> None:
        try:
            await super()._publish(rows)
        except ServerUnreachable:
            if await self._results.open("model"):
                await self._database.insist(outbox.published, rows)
            raise


class TellsNoWorker(Control):
    """Writes wishes down, and leaves it at that."""

    def _stop(self, *_given: Any) -> None:
        return


class RelaysAlways(Relay):
    """Does not care whether it is the one."""

    def assign(self, *, owner: bool) -> None:  # noqa: ARG002
        super().assign(owner=True)
