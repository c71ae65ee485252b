"""Ends of attempts on their way into a database that takes its time."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import TypeVar, TypeVarTuple, cast

from sqlalchemy import Connection

from runtime.database import Database
from runtime.database.outcomes import Settlement
from runtime.database.thread import DatabaseThread
from runtime.monitoring import Metrics
from schemas.errors import ServerUnreachable
from schemas.events import Lease
from schemas.results import Choice, GenerateResult, ResultEvent, Terminal
from schemas.topics import Kind
from tests.unit.workers.fakes import SCHEDULED_AT
from workers.leases import Leases
from workers.metrics import WorkerMetrics
from workers.outcomes import BATCH_BYTES, FULL_BYTES, Outcomes

Answer = TypeVar("Answer")
Arguments = TypeVarTuple("Arguments")
MIB = 1024**2


class SlowDatabase(DatabaseThread):
    """Answers within its time to batches of so many bytes alone; it connects to nothing."""

    def __init__(self, most_bytes: int) -> None:
        super().__init__(Database("postgresql+psycopg2://nobody@127.0.0.1:1/none"))
        self._most_bytes = most_bytes
        self.batches: list[list[str]] = []
        self.stored: list[str] = []

    async def run(self, work: Callable[[Connection, *Arguments], Answer], *arguments: *Arguments) -> Answer:  # noqa: ARG002
        """All leases were held."""
        batch = cast(tuple[Sequence[Settlement]], arguments)[0]
        self.batches.append([item.lease.job_id for item in batch])
        if sum(len(item.encoded) for item in batch) > self._most_bytes:
            raise ServerUnreachable("Postgres", "here", "canceling statement due to statement timeout")
        self.stored += self.batches[-1]
        return cast(Answer, {item.lease for item in batch})


def lease(job_id: str) -> Lease:
    return Lease("default", job_id, 1, "worker-1")


def event(job_id: str, size_bytes: int) -> ResultEvent:
    return ResultEvent(
        job_id=job_id,
        tenant="default",
        kind=Kind.GENERATE,
        status=Terminal.SUCCEEDED,
        attempt=1,
        finished_at=SCHEDULED_AT,
        result=GenerateResult(choices=(Choice(0, 0, "x" * size_bytes, 1, "stop"),)),
    )


def run(database: SlowDatabase, use: Callable[[Outcomes], Awaitable[None]]) -> None:
    """Use outcomes while they are stored."""

    async def main() -> None:
        leases = Leases(database, database, "worker-1", "test", 3.0)
        outcomes = Outcomes(database, leases, WorkerMetrics(Metrics("test")), lambda: None)
        storing = asyncio.create_task(outcomes.run())
        try:
            async with asyncio.timeout(60):
                await use(outcomes)
        finally:
            storing.cancel()
            with suppress(asyncio.CancelledError):
                await storing

    asyncio.run(main())


def test_a_batch_has_no_more_bytes_than_its_bound_but_for_a_single_result() -> None:
    database = SlowDatabase(100 * MIB)

    async def use(outcomes: Outcomes) -> None:
        sizes = [MIB] * 20 + [BATCH_BYTES] + [10] * 300
        ends = [outcomes.settle(lease(str(number)), event(str(number), size)) for number, size in enumerate(sizes)]
        assert all(await asyncio.gather(*ends))

    run(database, use)
    assert [len(batch) for batch in database.batches] == [7, 7, 6, 1, 300]


def test_a_batch_that_takes_too_long_is_stored_in_smaller_ones_and_later_ones_grow_again() -> None:
    database = SlowDatabase(3 * MIB)

    async def use(outcomes: Outcomes) -> None:
        ends = [outcomes.settle(lease(str(number)), event(str(number), MIB)) for number in range(7)]
        assert all(await asyncio.gather(*ends))
        more = [outcomes.settle(lease(f"small-{number}"), event(f"small-{number}", 10)) for number in range(40)]
        assert all(await asyncio.gather(*more))

    run(database, use)
    assert [len(batch) for batch in database.batches[:3]] == [7, 3, 1]
    assert sorted(database.stored[:7]) == [str(number) for number in range(7)]
    assert len(database.batches[-1]) > 8


def test_a_result_that_postgres_never_takes_in_its_time_holds_up_no_other() -> None:
    database = SlowDatabase(2 * MIB)

    async def use(outcomes: Outcomes) -> None:
        stuck = asyncio.ensure_future(outcomes.settle(lease("stuck"), event("stuck", 3 * MIB)))
        ends = [outcomes.settle(lease(str(number)), event(str(number), 10)) for number in range(5)]
        assert all(await asyncio.gather(*ends))
        assert not stuck.done()
        stuck.cancel()

    run(database, use)


def test_a_worker_is_full_while_results_of_many_bytes_wait() -> None:
    database = SlowDatabase(100 * MIB)

    async def use(outcomes: Outcomes) -> None:
        ends = [
            asyncio.ensure_future(outcomes.settle(lease(str(number)), event(str(number), 8 * MIB)))
            for number in range(FULL_BYTES // (8 * MIB))
        ]
        seen = [outcomes.full]
        await asyncio.sleep(0)
        seen.append(outcomes.full)
        await asyncio.gather(*ends)
        assert [*seen, outcomes.full] == [False, True, False]

    run(database, use)
