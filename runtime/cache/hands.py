"""The same steps for threads and for tasks: a coroutine says what to do, and this does it blocking or on the loop."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import Any, Protocol, TypeVar

Answer = TypeVar("Answer")


class Hands(Protocol):
    """How a load waits."""

    async def call(self, work: Callable[[], Answer]) -> Answer:
        """Do what blocks."""

    async def sleep(self, for_s: float) -> None:
        """Wait."""

    def task(self) -> "asyncio.Task[Any] | None":
        """The task that does these steps, if one does."""


class Blocking(Hands):
    """In this thread. Nothing is ever suspended, so ``run`` gets to the end in one step."""

    async def call(self, work: Callable[[], Answer]) -> Answer:
        """Do it here."""
        return work()

    async def sleep(self, for_s: float) -> None:
        """Sleep."""
        time.sleep(for_s)  # noqa: ASYNC251  # no loop runs this; see ``run``

    def task(self) -> None:
        """None: a thread does them."""
        return


class OnLoop(Hands):
    """On the running loop; what blocks is done by the executor's threads."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    async def call(self, work: Callable[[], Answer]) -> Answer:
        """Do it in another thread."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)

    async def sleep(self, for_s: float) -> None:
        """Let the loop go on."""
        await asyncio.sleep(for_s)

    def task(self) -> "asyncio.Task[Any] | None":
        """The current one."""
        return asyncio.current_task()


def run(steps: Coroutine[Any, Any, Answer]) -> Answer:
    """What a coroutine gives that ``Blocking`` hands carry."""
    try:
        steps.send(None)
    except StopIteration as end:
        answer: Answer = end.value
        return answer
    steps.close()
    raise RuntimeError("a loader of a blocking call was suspended; it awaits something, so call the async twin")
