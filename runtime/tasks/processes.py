"""Tasks in processes: each worker's thread looks after one child, so that a child's end is that of one task.

``concurrent.futures`` gives up the whole pool when a process ends, and loky with it; pebble's processes share a pipe
and its lock, which one that is killed can take along. Here the thread knows which task its child has.
"""

import signal
from functools import partial
from typing import Any, Final

import msgspec

from runtime.tasks import wire
from runtime.tasks.errors import Failure, ProcessDied, TaskFailed
from runtime.tasks.life import Life
from runtime.tasks.queue import TaskQueue
from runtime.tasks.spawned import ChildDied, Spawned
from runtime.tasks.status import Progress, Reason
from runtime.tasks.timers import Timers

NOT_STARTED: Final = (
    "its process did not start: it ended with {}, and its stderr says why. A script that opens a TaskManager needs "
    '`if __name__ == "__main__":` around what it does.'
)


class ProcessRunner:
    """Runs tasks in processes. One that does not stop in a grace gets SIGTERM, and SIGKILL after another."""

    def __init__(self, timers: Timers, grace_s: float) -> None:
        self._timers = timers
        self._grace_s = grace_s

    def work(self, queue: TaskQueue) -> None:
        """Run one task after the other in a child, until the queue has ended."""
        _Keeper(self._timers, self._grace_s).work(queue)


class _Keeper:
    """A thread with its child."""

    def __init__(self, timers: Timers, grace_s: float) -> None:
        self._timers = timers
        self._grace_s = grace_s
        self._child: Spawned | None = None
        self._trouble: Exception = RuntimeError("there is no process")

    def work(self, queue: TaskQueue) -> None:
        # Before there is a task: one that waits for a process is still in the queue.
        self._revive()
        while (task := queue.get()) is not None:
            if task.begin(self):
                self._serve(task)
            del task
            # After the task's end is told, and before the next one comes.
            if self._child is None and not queue.ended:
                self._revive()
        if self._child is not None:
            self._child.bury()

    def stop(self, task: Life[Any], reason: Reason) -> None:
        """Tell the child, and end it if that does not help."""
        child = self._child
        if child is not None:
            child.tell(task, reason)
            self._timers.after(self._grace_s, lambda: child.kill(task, signal.SIGTERM))
            self._timers.after(2 * self._grace_s, lambda: child.kill(task, signal.SIGKILL))

    def _revive(self) -> None:
        """Have a child that takes tasks, or the reason why there is none."""
        if self._child is not None and self._child.alive:
            return
        if self._child is not None:
            # The kernel's choice for want of memory, or an operator's.
            self._child.bury()
            self._child = None
        try:
            child = Spawned()
        except Exception as error:  # no process, no memory, no file; or a __main__ that can't be told to a child
            self._trouble = error
            return
        try:
            child.wait_ready()
        except ChildDied:
            self._trouble = RuntimeError(NOT_STARTED.format(child.bury(0.0)))
            return
        self._child = child

    def _serve(self, task: Life[Any]) -> None:
        self._revive()
        child, call = self._child, task.call
        if child is None or call is None:
            _fail(task, self._trouble)
            return
        if task.reason() is not None:
            task.settle_stopped()
            return
        try:
            frame = child.order(task, call)
        except BaseException as error:  # whatever pickle raises for an argument; a ``sys.exit`` would end this thread
            _fail(task, error)
            return
        try:
            child.send(task, frame)
            if (reason := task.reason()) is not None:
                # Told before the child had it.
                self.stop(task, reason)
            self._hear(task, child)
        except ChildDied:
            self._lose(task, child)
        except Exception as error:  # no memory for what the child sends: where its frames begin is lost
            self._child = None
            child.bury(0.0)
            _fail(task, error)

    def _hear(self, task: Life[Any], child: Spawned) -> None:
        while (frame := child.receive())[:1] == wire.PROGRESS:
            task.report(msgspec.msgpack.decode(memoryview(frame)[1:], type=Progress))
        usable = child.done()
        _settle(task, frame)
        if not usable:
            # A signal is on its way to it.
            self._child = None
            child.bury()

    def _lose(self, task: Life[Any], child: Spawned) -> None:
        self._child = None
        exit_code = child.bury()
        if task.reason() is not None:
            task.settle_stopped()
            return
        died = partial(ProcessDied, str(task), child.pid, exit_code)
        task.fail(Failure.of(died()), died)


def _settle(task: Life[Any], frame: bytes) -> None:
    match frame[:1]:
        case wire.RESULT:
            try:
                value = wire.read_result(frame)
            except BaseException as error:  # whatever a value's module raises as it is imported, ``sys.exit`` as well
                _fail(task, error)
            else:
                task.succeed(value)
        case wire.STOPPED:
            task.settle_stopped()
        case _:
            failure = msgspec.msgpack.decode(memoryview(frame)[1:], type=Failure)
            task.fail(failure, partial(TaskFailed, str(task), failure))


def _fail(task: Life[Any], error: BaseException) -> None:
    failure = Failure.of(error)
    task.fail(failure, partial(TaskFailed, str(task), failure))
