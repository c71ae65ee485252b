"""Tasks in threads: they stop if they look at their context, and can't be stopped otherwise."""

import logging
from functools import partial
from typing import Any

from runtime.tasks.errors import Failure, TaskFailed, TaskStopped
from runtime.tasks.life import Life
from runtime.tasks.queue import TaskQueue
from runtime.tasks.status import Reason
from runtime.tasks.timers import Timers

log = logging.getLogger(__name__)


class ThreadRunner:
    """Runs tasks in the pool's threads. One that does not stop ends without its thread, which goes on alone."""

    def __init__(self, timers: Timers, grace_s: float) -> None:
        self._timers = timers
        self._grace_s = grace_s

    def work(self, queue: TaskQueue) -> None:
        """Run one task after the other until the queue has ended."""
        while (task := queue.get()) is not None:
            if task.begin(self):
                self._run(task)
            # Not until the next one comes: nobody may want its result any more.
            del task

    def stop(self, task: Life[Any], reason: Reason) -> None:  # noqa: ARG002  (its context has told it)
        """The task has until the grace is over."""
        self._timers.after(self._grace_s, lambda: _abandon(task))

    def _run(self, task: Life[Any]) -> None:
        call = task.call
        if call is None:
            return
        try:
            value = call.run(task.context)
        except TaskStopped as error:
            # One that has nothing to do with this task, of a task that it waited for, is a failure as any other.
            if task.reason() is None or not task.settle_stopped():
                _fail(task, error)
        except BaseException as error:  # also SystemExit: the thread belongs to the pool
            _fail(task, error)
        else:
            task.succeed(value)


def _fail(task: Life[Any], error: BaseException) -> None:
    failure = Failure.of(error)
    task.fail(failure, partial(TaskFailed, str(task), failure))


def _abandon(task: Life[Any]) -> None:
    if task.settle_stopped():
        log.warning("task %s does not stop: it has ended without its thread, which is busy until it does", task)
