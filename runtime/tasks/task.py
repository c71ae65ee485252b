"""A submitted task: the handle to wait for it, to watch it, and to stop it."""

import asyncio
import threading
from collections.abc import AsyncIterator, Generator, Iterator
from concurrent.futures import Future
from typing import Any, TypeVar, cast

from runtime.tasks.errors import TaskError, TaskTimeout
from runtime.tasks.life import Life
from runtime.tasks.status import Progress
from runtime.tasks.watching import async_updates, updates, waker

R = TypeVar("R", covariant=True)


class Task(Life[R]):
    """One task, for those who submitted it. Every method may be called from any thread."""

    __slots__ = ()

    def result(self, timeout_s: float | None = None) -> R:
        """Wait for the task; what its function returned.

        Raises:
            TaskFailed, ProcessDied, TaskCancelled, TaskExpired: it has none.
            TaskTimeout: not yet (retryable).
        """
        if not self.wait(timeout_s):
            raise TaskTimeout(str(self), timeout_s or 0.0)
        if self._error is not None:
            # A new one each time: an exception that is raised in several threads collects all their frames.
            raise self._error()
        return cast(R, self._value)

    def error(self) -> TaskError | None:
        """Why an ended task has no result."""
        return self._error() if self._error is not None else None

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait for the task's end; false if it does not come in time."""
        if self.ended:
            return True
        latch = threading.Lock()
        latch.acquire()
        release = latch.release
        self.on_end(release)
        if latch.acquire(timeout=-1 if timeout_s is None else max(0.0, timeout_s)):
            return True
        self.forget(release)
        return self.ended

    def __await__(self) -> Generator[Any, None, R]:
        """As ``result``, for an event loop. To stop waiting does not stop the task: ``cancel`` does."""
        yield from self._wait_in_loop().__await__()
        return self.result()

    def future(self) -> "Future[R]":
        """The end as a ``Future``, for ``concurrent.futures.wait`` and ``as_completed``."""
        future: Future[R] = Future()
        future.set_running_or_notify_cancel()

        def settle() -> None:
            if (error := self.error()) is not None:
                future.set_exception(error)
            else:
                future.set_result(cast(R, self._value))

        self.on_end(settle)
        return future

    def updates(self, timeout_s: float | None = None) -> Iterator[Progress]:
        """The task's progress as it comes, until its end; one who is slow sees the latest, not each.

        Raises:
            TaskTimeout: nothing has come for so long (retryable).
        """
        return updates(self, timeout_s)

    def __aiter__(self) -> AsyncIterator[Progress]:
        """As ``updates``, for an event loop."""
        return async_updates(self)

    def cancel(self) -> bool:
        """Have the task stop; false if it has ended already.

        One that is queued never starts. A running one sees it in its context; a process that goes on all the same
        is ended after a grace, and a thread is left alone then: its task ends without it.
        """
        return self.stop("cancelled")

    async def _wait_in_loop(self) -> None:
        ended = asyncio.Event()
        wake = waker(asyncio.get_running_loop(), ended)
        self.on_end(wake)
        try:
            await ended.wait()
        finally:
            self.forget(wake)
