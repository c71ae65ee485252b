"""Jobs that are given back."""

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar, TypeVarTuple, cast

import pytest
from msgspec.structs import replace
from sqlalchemy import Connection

from runtime.database import Database
from runtime.database.jobs import give_back
from runtime.database.thread import DatabaseThread
from runtime.monitoring import Metrics
from schemas.events import Lease, State
from tests.unit.workers.fakes import FakeAnnouncer, job, work
from workers.leases import Leases
from workers.metrics import WorkerMetrics
from workers.returns import DELAY_S, LONGEST_DELAY_S, Returns

Answer = TypeVar("Answer")
Arguments = TypeVarTuple("Arguments")


class FakeDatabase(DatabaseThread):
    """Notes what it is asked for; it connects to nothing."""

    def __init__(self) -> None:
        super().__init__(Database("postgresql+psycopg2://nobody@127.0.0.1:1/none"))
        self.asked: list[tuple[Any, ...]] = []

    async def insist(self, work: Callable[[Connection, *Arguments], Answer], *arguments: *Arguments) -> Answer:
        """Every lease was still held."""
        self.asked.append((work, *arguments))
        leases: list[Lease] = cast(tuple[Any, ...], arguments)[0]
        return cast(Answer, set(leases))


@pytest.mark.parametrize(("epoch", "delay_s"), [(3, DELAY_S), (6, 8 * DELAY_S), (1_000_000, LONGEST_DELAY_S)])
def test_a_job_that_is_put_off_again_and_again_waits_longer_each_time(epoch: int, delay_s: float) -> None:
    database, announcer = FakeDatabase(), FakeAnnouncer()
    given = work(replace(job(), attempt=3))
    given = replace(given, lease=replace(given.lease, epoch=epoch))
    returns = Returns(Leases(database, database, "worker-1", "test", 3.0), announcer, WorkerMetrics(Metrics("test")))
    asyncio.run(returns.put_off(given))
    ((statement, leases, state, waited_s),) = database.asked
    assert (statement, leases, state) == (give_back, [given.lease], State.QUEUED)
    assert delay_s / 2 <= waited_s <= delay_s * 1.5
    assert given.lease in returns
    assert announcer.states == [State.QUEUED]
