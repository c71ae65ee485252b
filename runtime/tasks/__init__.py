"""Tasks in threads and spawned processes: submit, watch, cancel and wait for them.

::

    @async_task(use_process=True, deadline_s=600)
    def tokenize(ctx: TaskContext, path: Path) -> int:
        for number, line in enumerate(path.open()):
            ctx.progress(number)
            ctx.check()
        return number

    with TaskManager() as tasks:
        task = tasks.submit(tokenize, path)
        for progress in task.updates():
            print(progress.done)
        print(task.result())
"""

from runtime.tasks.background import Background
from runtime.tasks.board import RedisBoard
from runtime.tasks.context import TaskContext
from runtime.tasks.default import task_manager
from runtime.tasks.errors import (
    Failure,
    ProcessDied,
    QueueFull,
    TaskCancelled,
    TaskError,
    TaskExpired,
    TaskFailed,
    TaskNotFound,
    TasksClosed,
    TaskStopped,
    TaskTimeout,
)
from runtime.tasks.functions import Options, TaskFunction, async_task
from runtime.tasks.ledger import Board, Counts
from runtime.tasks.manager import Limits, TaskManager
from runtime.tasks.status import Progress, State, TaskStatus
from runtime.tasks.task import Task

__all__ = [
    "Background",
    "Board",
    "Counts",
    "Failure",
    "Limits",
    "Options",
    "ProcessDied",
    "Progress",
    "QueueFull",
    "RedisBoard",
    "State",
    "Task",
    "TaskCancelled",
    "TaskContext",
    "TaskError",
    "TaskExpired",
    "TaskFailed",
    "TaskFunction",
    "TaskManager",
    "TaskNotFound",
    "TaskStatus",
    "TaskStopped",
    "TaskTimeout",
    "TasksClosed",
    "async_task",
    "task_manager",
]
