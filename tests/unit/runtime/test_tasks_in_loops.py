"""Tasks and event loops: whoever waits in a loop does not hold it up."""

import asyncio

import pytest

from runtime.tasks import Limits, Progress, QueueFull, TaskFailed, TaskManager, async_task
from tests.unit.runtime.gates import PATIENCE_S, Gate, gated, opened

FEW = Limits(threads=1, queued=1, grace_s=0.05)


def test_tasks_are_awaited_and_watched_in_a_loop() -> None:
    async def run() -> None:
        gate = Gate()
        async with TaskManager(FEW) as tasks:
            task = await tasks.submit_async(gated, gate)
            gate.commands.put("report")
            seen = []
            async for progress in task:
                seen.append(progress)
                gate.open()
            assert seen == [Progress(1, 2, "half")]
            assert await task == "done"
            with pytest.raises(TaskFailed, match="ValueError"):
                await await_later(tasks)

    async def await_later(tasks: TaskManager) -> None:
        await (await tasks.submit_async(int, "no number"))

    asyncio.run(asyncio.wait_for(run(), PATIENCE_S))


def test_the_loop_goes_on_while_a_submission_waits_for_a_place() -> None:
    async def run() -> None:
        gate = Gate()
        async with TaskManager(FEW) as tasks:
            with opened(gate):
                await tasks.submit_async(gated, gate)
                await asyncio.to_thread(gate.started.wait, PATIENCE_S)
                await tasks.submit_async(len, "queued")
                waiting = asyncio.ensure_future(tasks.submit_async(len, "four"))
                await asyncio.sleep(0)
                # The loop is here while the submission waits.
                assert not waiting.done()
                with pytest.raises(QueueFull):
                    await tasks.submit_async(async_task(len).options(when_full="raise"), "four")
                with pytest.raises(QueueFull):
                    await tasks.submit_async(async_task(len).options(wait_s=0.01), "four")
                gate.open()
                assert await (await waiting) == 4

    asyncio.run(asyncio.wait_for(run(), PATIENCE_S))


def test_a_submission_that_is_cancelled_leaves_no_task() -> None:
    async def run() -> None:
        gate, never = Gate(), Gate()
        async with TaskManager(FEW) as tasks:
            with opened(gate):
                await tasks.submit_async(gated, gate)
                await asyncio.to_thread(gate.started.wait, PATIENCE_S)
                await tasks.submit_async(len, "queued")
                waiting = asyncio.ensure_future(tasks.submit_async(gated, never))
                await asyncio.sleep(0)
                waiting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await waiting
            await asyncio.to_thread(tasks.wait, None, PATIENCE_S)
            assert tasks.counts().succeeded == 2
        assert not never.started.is_set()

    asyncio.run(asyncio.wait_for(run(), PATIENCE_S))


def test_who_stops_waiting_does_not_stop_the_task() -> None:
    async def run() -> None:
        gate = Gate()
        async with TaskManager(FEW) as tasks:
            with opened(gate):
                task = await tasks.submit_async(gated, gate)
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(asyncio.ensure_future(_wait(task)), 0.01)
                assert not task.ended
            assert await task == "done"

    async def _wait(task: object) -> None:
        await task  # type: ignore[misc]  # any task

    asyncio.run(asyncio.wait_for(run(), PATIENCE_S))


def test_background_work_is_put_from_a_loop() -> None:
    done: list[int] = []

    async def run() -> None:
        async with TaskManager(FEW) as tasks:
            audit = tasks.background("audit", queued=1)
            for number in range(10):
                await audit.put_async(done.append, number)

    asyncio.run(asyncio.wait_for(run(), PATIENCE_S))
    assert done == list(range(10))
