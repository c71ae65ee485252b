"""What can become of a task other than its result; every message names the task.

::

    TaskError
    ├── TaskFailed          the function raised: carries what, where, and its traceback as text
    ├── ProcessDied         the process under the task ended: a signal, ``os._exit``, the kernel's OOM killer
    ├── TaskStopped         not a failure: it ended early
    │   ├── TaskCancelled
    │   └── TaskExpired         its deadline passed
    ├── QueueFull           too many tasks wait already (retryable)
    ├── TasksClosed         the manager takes no more
    ├── TaskNotFound        never submitted here, or its result is no longer kept
    └── TaskTimeout         it has no result within the caller's time, and goes on (retryable)
"""

import signal
import traceback
from typing import Final, Self

from msgspec import Struct

from schemas.errors import HeadraceError, printable, shown

#: A longer traceback loses its head: where it was raised is what one looks for. It is kept, and goes to Redis.
TRACEBACK_CHARS: Final = 16_384
MESSAGE_CHARS: Final = 4_096


class Failure(Struct, frozen=True):
    """An exception as plain text and names: what crosses from a child process, and lies in Redis.

    Exceptions are not pickled: one whose ``__init__`` wants more than a message can't be unpickled, and that
    would turn a task's failure into the pool's.
    """

    #: The names of its class and of all its bases, its own first.
    kinds: tuple[str, ...]
    message: str
    traceback: str
    #: ``HeadraceError``'s, or what any other exception has.
    code: str = HeadraceError.code
    retryable: bool = False

    @classmethod
    def of(cls, error: BaseException) -> Self:
        """The exception with its chain of causes; one that can't even be printed is described by its type alone."""
        kind = type(error)
        return cls(
            kinds=tuple(_name(base) for base in kind.__mro__ if base is not object),
            message=encodable(_message(error)[:MESSAGE_CHARS]),
            traceback=encodable(_traceback(error)[-TRACEBACK_CHARS:]),
            code=error.code if isinstance(error, HeadraceError) else HeadraceError.code,
            retryable=isinstance(error, HeadraceError) and error.retryable,
        )

    def is_a(self, kind: type[BaseException]) -> bool:
        """Whether ``except kind`` would have caught it where it was raised."""
        return _name(kind) in self.kinds


class TaskError(HeadraceError):
    """A task has no result."""

    code = "task"


class TaskFailed(TaskError):
    """The function raised. The same for threads and processes; ``failure`` says what, printed with its traceback."""

    code = "task_failed"

    def __init__(self, task: str, failure: Failure) -> None:
        self.failure = failure
        super().__init__(f"Task {task} raised {failure.kinds[0]}: {failure.message}")
        self.add_note(f"Where the task ran:\n{failure.traceback}")


class ProcessDied(TaskError):
    """The process under the task ended without an answer; whether the task had begun is not known."""

    code = "task_process_died"

    def __init__(self, task: str, pid: int, exit_code: int | None) -> None:
        self.pid = pid
        self.exit_code = exit_code
        super().__init__(
            f"Process {pid} under task {task} {_ending(exit_code)}. The other tasks go on, and a new process has "
            "taken its place; look at the system's log (`dmesg`) for the kernel's reasons."
        )


class TaskStopped(TaskError):
    """The task ended before its end, and that is no failure of it."""

    code = "task_stopped"


class TaskCancelled(TaskStopped):
    """Somebody cancelled the task."""

    code = "task_cancelled"

    def __init__(self, task: str) -> None:
        super().__init__(f"Task {task} was cancelled.")


class TaskExpired(TaskStopped):
    """The task was not done by its deadline."""

    code = "task_expired"

    def __init__(self, task: str) -> None:
        super().__init__(f"Task {task} was not done by its deadline. Give it a later `deadline_s`, or less to do.")


class QueueFull(TaskError):
    """More tasks wait than may (retryable)."""

    code = "task_queue_full"
    retryable = True

    def __init__(self, queue: str, capacity: int, waited_s: float) -> None:
        waited = f"and did not take one more within {waited_s:g} s" if waited_s else "the most that may"
        super().__init__(
            f"{capacity:,} tasks wait in queue {queue!r}, {waited}. Submit this one again later, wait longer "
            "(`wait_s`), or give the manager more workers."
        )


class TasksClosed(TaskError):
    """The manager is closed, or belongs to another process."""

    code = "tasks_closed"

    def __init__(self, reason: str) -> None:
        super().__init__(f"No task is taken: {reason}")


class TaskNotFound(TaskError):
    """No such task, or no longer."""

    code = "task_not_found"

    def __init__(self, task_id: str, kept: int, keep_s: float) -> None:
        super().__init__(
            f"There is no task {shown(task_id)}. Ended ones are kept for {keep_s:g} s, the last {kept:,} of them."
        )


class TaskTimeout(TaskError):
    """No result within the caller's time; the task goes on (retryable)."""

    code = "task_timeout"
    retryable = True

    def __init__(self, task: str, timeout_s: float) -> None:
        super().__init__(f"Task {task} has no result after {timeout_s:g} s. It goes on; ask again or cancel it.")


def encodable(text: str) -> str:
    """The text with what UTF-8 does not have escaped: the name of a file may be any bytes (PEP 383)."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _name(kind: type) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # a foreign ``__str__`` may raise anything
        return "(its message can't be printed)"


def _traceback(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(error))
    except Exception:  # as above: the failure matters more than how it looks
        return printable(_name(type(error)))


def _ending(exit_code: int | None) -> str:
    if exit_code is None:
        return "was lost"
    if exit_code >= 0:
        return f"ended with status {exit_code}"
    try:
        return f"was ended by {signal.Signals(-exit_code).name}"
    except ValueError:
        return f"was ended by signal {-exit_code}"
