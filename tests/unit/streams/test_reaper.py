"""What the reaper decides, and when it does not look."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from runtime.database import outcomes
from runtime.database.outcomes import ExpiredLease
from runtime.database.thread import DatabaseThread
from runtime.kafka import Publisher
from schemas.events import Lease
from schemas.limits import ATTEMPTS
from schemas.results import ResultEvent, Terminal
from schemas.topics import Kind
from streams.instruments import Instruments
from streams.reaper import AWAY_S, DELAY_S, Reaper, decide

LEASE_S = 0.5


def expired(lost: int, attempt: int) -> ExpiredLease:
    return ExpiredLease(Lease("default", "job", attempt, "worker"), Kind.FINETUNE, attempt, "", "0" * 64, lost)


@pytest.mark.parametrize("lost", range(1, ATTEMPTS))
def test_a_job_that_lost_its_worker_waits_longer_each_time(lost: int) -> None:
    delay_s = decide(expired(lost, attempt=7))
    assert isinstance(delay_s, float)
    assert 0.5 * DELAY_S * 2 ** (lost - 1) <= delay_s <= 1.5 * DELAY_S * 2 ** (lost - 1)


def test_a_job_that_lost_its_workers_in_a_row_is_poison_whatever_its_attempt() -> None:
    event = decide(expired(ATTEMPTS, attempt=9))
    assert isinstance(event, ResultEvent)
    assert (event.status, event.attempt) == (Terminal.FAILED, 9)
    assert event.error is not None
    assert event.error.code == "poison_job"
    assert "each of 3 attempts in a row" in event.error.message


class SlowDatabase:
    """Its first answer takes longer than a hiccup; it notes when it was asked to end leases."""

    def __init__(self) -> None:
        self.asked_s: list[float] = []
        self.answered_s = 0.0
        self.reaped = asyncio.Event()

    async def insist(self, work: Callable[..., Any], _: object, most: int) -> list[object]:
        assert work is outcomes.reap
        now_s = asyncio.get_running_loop().time
        if most:
            self.asked_s.append(now_s())
            self.reaped.set()
        elif not self.answered_s:
            await asyncio.sleep(1.1 * AWAY_S)
            self.answered_s = now_s()
        return []


def test_after_an_outage_every_worker_gets_the_time_to_renew_its_leases() -> None:
    async def run() -> None:
        database = SlowDatabase()
        reaper = Reaper(cast(DatabaseThread, database), cast(Publisher, None), cast(Instruments, Counters()))
        running = asyncio.create_task(reaper.run(LEASE_S))
        await database.reaped.wait()
        running.cancel()
        assert database.asked_s[0] - database.answered_s >= LEASE_S

    asyncio.run(run())


class Counters:
    """Counts nothing."""

    def __init__(self) -> None:
        self.requeued = self.poisoned = self

    def inc(self, _: int) -> None:
        """Nothing."""
