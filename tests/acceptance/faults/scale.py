"""Scale-out and change of release under load, without any fault: dispatchers 1, 3, 1, and workers 1, 3, 1.

The last are not the first.
"""

import asyncio
from contextlib import AsyncExitStack
from typing import Final

from tests.acceptance.faults.line import RunLine
from tests.acceptance.faults.run import Run
from tests.acceptance.faults.schedule import DISPATCHERS, WORKERS, Schedule
from tests.acceptance.faults.stack import EXTRA_DISPATCHERS, FaultStack
from tests.acceptance.faults.worker import LAST_RELEASE

#: How long jobs are submitted. It is over later where those who join take longer to start.
LOAD_S: Final = 20.0
SEED: Final = 0


async def scaled(stack: FaultStack) -> RunLine:
    """The verdict on a run in which nothing is done to anybody, on a stack that begins with one of each.

    Whoever leaves is told to (SIGTERM): a worker's jobs go on elsewhere, and none may lose its lease, or its attempt.
    The workers that leave are of the last release, those that remain of this one.
    """
    stack.releases.update(dict.fromkeys((WORKERS[0], WORKERS[2]), LAST_RELEASE))
    async with stack.running(DISPATCHERS[:1], WORKERS[:1]):
        return await _scaled(stack)


async def _scaled(stack: FaultStack) -> RunLine:
    run = Run(Schedule(SEED, (), LOAD_S), stack)
    async with asyncio.TaskGroup() as group, AsyncExitStack() as staying:
        running = group.create_task(run.result())
        for remains, leaves in ((DISPATCHERS[1], EXTRA_DISPATCHERS[0]), (WORKERS[1], WORKERS[2])):
            remaining = await staying.enter_async_context(stack.joined(remains))
            with run.leaving(leaves):
                async with stack.joined(leaves) as leaving:
                    await asyncio.gather(remaining.serving(), leaving.serving())
        with run.leaving(WORKERS[0]):
            await asyncio.gather(stack.members[DISPATCHERS[0]].stop(), stack.members[WORKERS[0]].stop())
        return await running
