"""What is finished once it has begun, though whoever began it is told to stop."""

import asyncio
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

#: How long a stop waits for it: supervisors give ten seconds, of which the consumers and the publisher want most.
FINISH_S: Final = 1.0
Answer = TypeVar("Answer")


class Underway:
    """Work between a transaction and the word that it is done; a process waits for it before it leaves.

    Left in the middle, leases would be taken of which no worker was told: their jobs would wait until these have run
    out, and lose an attempt.
    """

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    async def finish(self, work: Coroutine[Any, Any, Answer]) -> Answer:
        """Do it; where the caller is cancelled it goes on."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)

    async def finished(self) -> bool:
        """Wait for all of it, but no longer than ``FINISH_S``; whether it is done."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=FINISH_S)
        return not self._tasks
