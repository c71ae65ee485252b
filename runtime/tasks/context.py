"""What a running task may ask for: where it tells its progress, and whether it shall stop."""

import threading
from collections.abc import Callable

from runtime.tasks.errors import TaskCancelled, TaskExpired, TaskStopped, encodable
from runtime.tasks.status import Progress, Reason


class StopSignal:
    """Tells a task once that it shall stop, and why."""

    __slots__ = ("_event", "reason")

    def __init__(self) -> None:
        self.reason: Reason | None = None
        self._event = threading.Event()

    def set(self, reason: Reason) -> None:
        """The first reason stays."""
        self.reason = self.reason or reason
        self._event.set()

    def wait(self, timeout_s: float | None) -> bool:
        """Wait to be told; false when the time is over."""
        return self._event.wait(timeout_s)


class TaskContext:
    """Passed to a function whose first parameter is annotated with it. Its methods may be called from any thread."""

    __slots__ = ("_report", "_stop", "task")

    def __init__(self, task: str, report: Callable[[Progress], None], stop: StopSignal) -> None:
        #: The task's id and name, for logs.
        self.task = task
        self._report = report
        self._stop = stop

    @classmethod
    def detached(cls) -> "TaskContext":
        """The context of a function that is called as such: nobody hears its progress, nobody stops it."""
        return cls("(called directly)", lambda _progress: None, StopSignal())

    def progress(self, done: float, total: float | None = None, message: str = "") -> None:
        """Tell how far the task is; those who wait for it see it at once. From a process it is one message, 3 µs.

        Raises:
            TypeError, ValueError: ``done`` or ``total`` is no number (final).
        """
        # numpy's numbers, and names of files that are no UTF-8, would stop whoever writes it to others.
        self._report(Progress(_number(done), None if total is None else _number(total), encodable(message)))

    @property
    def cancelled(self) -> bool:
        """Whether the task was cancelled or its deadline passed: it has the grace that is left to return."""
        return self._stop.reason is not None

    def check(self) -> None:
        """Go on, unless the task shall stop.

        Raises:
            TaskCancelled, TaskExpired: let it pass, and the task ends as such.
        """
        if self._stop.reason is not None:
            raise stopped(self.task, self._stop.reason)

    def wait(self, timeout_s: float | None = None) -> bool:
        """Sleep, but no longer than the task may run on; true if it shall stop."""
        return self._stop.wait(timeout_s)


def _number(value: float) -> float:
    return value if type(value) is int or type(value) is float else float(value)


def stopped(task: str, reason: Reason) -> TaskStopped:
    """The error of a task that stopped for this reason."""
    return TaskCancelled(task) if reason == "cancelled" else TaskExpired(task)
