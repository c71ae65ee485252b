"""The same steps for threads and for tasks: a coroutine says what to do, and this does it blocking or on the loop."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor, Future
from contextlib import suppress
from functools import partial
from typing import Any, Protocol, TypeVar

Answer = TypeVar("Answer")


class Hands(Protocol):
    """How a load waits."""

    async def call(self, work: Callable[[], Answer], undo: Callable[[Answer], object] | None = None) -> Answer:
        """Do what blocks. Where the caller is cancelled meanwhile, ``undo`` gets the answer instead."""

    def leave(self, work: Callable[[], object]) -> None:
        """Do what blocks, though the caller may be gone by then."""

    async def sleep(self, for_s: float) -> None:
        """Wait."""

    def task(self) -> "asyncio.Task[Any] | None":
        """The task that does these steps, if one does."""


class Blocking(Hands):
    """In this thread. Nothing is ever suspended, so ``run`` gets to the end in one step."""

    async def call(
        self,
        work: Callable[[], Answer],
        undo: Callable[[Answer], object] | None = None,  # noqa: ARG002
    ) -> Answer:
        """Do it here; nobody can cancel that."""
        return work()

    def leave(self, work: Callable[[], object]) -> None:
        """Do it at once."""
        work()

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

    async def call(self, work: Callable[[], Answer], undo: Callable[[Answer], object] | None = None) -> Answer:
        """Do it in another thread, which does not stop where the task is cancelled."""
        doing = self._executor.submit(work)
        try:
            return await asyncio.wrap_future(doing)
        except asyncio.CancelledError:
            if undo is not None:
                doing.add_done_callback(partial(self._undo, undo))
            raise

    def leave(self, work: Callable[[], object]) -> None:
        """Do it in another thread; not at all once the cache is closed."""
        with suppress(RuntimeError):
            self._executor.submit(work)

    def _undo(self, undo: Callable[[Answer], object], done: "Future[Answer]") -> None:
        if not done.cancelled() and done.exception() is None:
            self.leave(partial(undo, done.result()))

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
