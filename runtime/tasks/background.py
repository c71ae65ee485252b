"""Queues for what nobody waits for: errors go to the log, and what is queued is done before the process ends."""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec

from runtime.tasks.functions import Options, TaskFunction
from runtime.tasks.life import Call
from runtime.tasks.pool import Pool
from runtime.tasks.task import Task

if TYPE_CHECKING:  # it makes these queues
    from runtime.tasks.manager import TaskManager

P = ParamSpec("P")

log = logging.getLogger(__name__)


class Background:
    """A bounded queue with threads of its own: what is slow in it delays nothing else.

    ``TaskManager.close`` lets it run dry within its time, then cancels what is left, and the log says how much.
    """

    def __init__(self, manager: "TaskManager", pool: Pool) -> None:
        self._manager = manager
        self._pool = pool

    def put(self, function: Callable[P, object], /, *args: P.args, **kwargs: P.kwargs) -> None:
        """Have it done at some time, and forget it.

        Raises:
            QueueFull: too many wait (retryable).
            TasksClosed: the manager takes no more.
        """
        task, options = self._new(function, args, kwargs)
        self._manager.put(task, self._pool, options)
        task.on_end(lambda: _log(task))

    async def put_async(self, function: Callable[P, object], /, *args: P.args, **kwargs: P.kwargs) -> None:
        """As ``put``, and does not block the loop while it waits for a place in the queue."""
        task, options = self._new(function, args, kwargs)
        await self._manager.put_async(task, self._pool, options)
        task.on_end(lambda: _log(task))

    def __len__(self) -> int:
        return len(self._pool.queue)

    def _new(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Task[Any], Options]:
        options = function.defaults if isinstance(function, TaskFunction) else Options()
        if options.use_process:
            raise TypeError(f"{function!r} wants a process, and background queues have threads: submit it instead")
        return self._manager.new(Call(function, args, kwargs), self._pool, options, kept=False), options


def _log(task: Task[Any]) -> None:
    if (failure := task.status().failure) is not None:
        log.error("background task %s failed: %s\n%s", task, failure.message, failure.traceback)
    elif task.state != "succeeded":
        log.warning("background task %s was not done: %s", task, task.state)
