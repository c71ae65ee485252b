"""Turns at a worker's slots: a flood at hand does not hold the others up."""

import asyncio
from contextlib import AsyncExitStack
from datetime import UTC, datetime

from schemas.requests import GenerateRequest, Job, Priority
from workers.turns import Turns

NOW = datetime(2026, 11, 23, tzinfo=UTC)


def job(name: str, tenant: str = "default", priority: Priority = Priority.NORMAL) -> Job:
    request = GenerateRequest(model="m", prompt="x", priority=priority)
    return Job(id=name, tenant=tenant, request=request, submitted_at=NOW, queued_at=NOW, traceparent="")


async def order(turns: Turns, *jobs: Job, cancelled: int | None = None) -> list[str]:
    """The jobs that wait while the only slot is taken, in the order in which they have it then."""
    had: list[str] = []

    async def have(each: Job) -> None:
        async with turns.slot(each):
            had.append(each.id)

    async with AsyncExitStack() as taken:
        await taken.enter_async_context(turns.slot(job("first", "flood")))
        tasks = [asyncio.create_task(have(each)) for each in jobs]
        await asyncio.sleep(0)
        if cancelled is not None:
            tasks[cancelled].cancel()
            await asyncio.wait([tasks[cancelled]])
    await asyncio.gather(*tasks, return_exceptions=True)
    return had


def test_another_tenant_s_job_goes_before_the_flood_that_came_first() -> None:
    jobs = [job("flood1", "flood"), job("flood2", "flood"), job("other", "other")]

    async def run() -> list[str]:
        turns = Turns(2)
        async with turns.slot(job("long", "flood")):
            return await order(turns, *jobs)

    assert asyncio.run(run()) == ["other", "flood1", "flood2"]


def test_jobs_of_one_tenant_go_by_priority_then_as_they_came() -> None:
    jobs = [job("batch", priority=Priority.BATCH), job("a"), job("b"), job("high", priority=Priority.HIGH)]
    assert asyncio.run(order(Turns(1), *jobs)) == ["high", "a", "b", "batch"]


def test_a_job_that_is_cancelled_while_it_waits_takes_no_slot() -> None:
    assert asyncio.run(order(Turns(1), job("a"), job("b"), job("c"), cancelled=1)) == ["a", "c"]


def test_a_slot_that_is_granted_at_the_moment_of_a_cancel_is_free_again() -> None:
    async def run() -> None:
        turns = Turns(1)

        async def have() -> None:
            async with turns.slot(job("late")):
                raise AssertionError("it was cancelled")

        async with turns.slot(job("first")):
            task = asyncio.create_task(have())
            await asyncio.sleep(0)
        task.cancel()  # the slot is the task's, which does not know it yet
        await asyncio.wait([task])
        async with asyncio.timeout(1), turns.slot(job("next")):
            pass

    asyncio.run(run())
