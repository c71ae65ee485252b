"""How many jobs may wait: the limits of a tenant and of all."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any, cast

import pytest

from runtime.database import Database
from runtime.database import quotas as counting
from runtime.database.thread import DatabaseThread
from runtime.monitoring import Metrics
from streams.instruments import Instruments
from streams.quotas import Quotas


class Counts(DatabaseThread):
    """Answers with the jobs that wait, as the test says."""

    def __init__(self, **waiting: int) -> None:
        super().__init__(cast(Database, None))
        self.waiting = waiting

    async def run(self, work: Callable[..., Any], *_arguments: Any) -> Any:  # type: ignore[override]
        assert work is counting.waiting
        return dict(self.waiting)


@pytest.fixture
def counts() -> Iterator[Counts]:
    with closing(Counts()) as counts:
        yield counts


def quotas(counts: Counts, *, queue_jobs: int = 100, tenant_jobs: int = 10) -> Quotas:
    return Quotas(counts, queue_jobs, tenant_jobs, Instruments(Metrics("test")))


def test_a_tenant_at_its_limit_is_refused_and_others_are_not(counts: Counts) -> None:
    async def run() -> None:
        counts.waiting = {"red": 10, "blue": 9}
        limits = quotas(counts)
        await limits.count()
        refusal = limits.refusal("red")
        assert refusal
        assert (refusal.code, refusal.retryable) == ("quota_exceeded", True)
        assert "'red' has 10 jobs" in str(refusal)
        assert limits.refusal("blue") is None
        assert limits.refusal("new") is None

    asyncio.run(run())


def test_what_is_admitted_between_two_counts_counts_too(counts: Counts) -> None:
    async def run() -> None:
        limits = quotas(counts, tenant_jobs=3)
        limits.admitted(["red", "red"])
        assert limits.refusal("red") is None
        assert limits.refusal("red", more=1)
        limits.admitted(["red"])
        assert limits.refusal("red")
        await limits.count()
        assert limits.refusal("red") is None

    asyncio.run(run())


def test_nobody_is_read_while_the_queue_is_full(counts: Counts) -> None:
    async def run() -> None:
        limits = quotas(counts, queue_jobs=2)
        await limits.room()
        limits.admitted(["red", "blue"])
        waiting = asyncio.create_task(limits.room())
        await asyncio.sleep(0)
        assert not waiting.done()
        await limits.count()
        await waiting

    asyncio.run(run())
