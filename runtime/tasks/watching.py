"""A task's progress as an iterator, for threads and for event loops: the latest at each look, not a queue of all."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from runtime.tasks.errors import TaskTimeout
from runtime.tasks.life import Life
from runtime.tasks.status import NO_PROGRESS, Progress


def updates(task: Life[Any], timeout_s: float | None) -> Iterator[Progress]:
    """The progress as it comes, until the task's end.

    Raises:
        TaskTimeout: nothing has come for so long (retryable).
    """
    news = threading.Event()
    seen = NO_PROGRESS
    with task.listening(news.set):
        while True:
            # Before the progress is read: what comes in between is seen in the next turn.
            ended = task.ended
            if (latest := task.progress) is not seen:
                seen = latest
                yield seen
            if ended:
                return
            if not news.wait(timeout_s):
                raise TaskTimeout(str(task), timeout_s or 0.0)
            news.clear()


async def async_updates(task: Life[Any]) -> AsyncIterator[Progress]:
    """As ``updates``, for an event loop."""
    news = asyncio.Event()
    seen = NO_PROGRESS
    with task.listening(waker(asyncio.get_running_loop(), news)):
        while True:
            ended = task.ended
            if (latest := task.progress) is not seen:
                seen = latest
                yield seen
            if ended:
                return
            await news.wait()
            news.clear()


def waker(loop: asyncio.AbstractEventLoop, event: asyncio.Event) -> Callable[[], None]:
    """Sets the loop's event from any thread; a loop that is closed meanwhile has nobody who waits."""

    def wake() -> None:
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(event.set)

    return wake
