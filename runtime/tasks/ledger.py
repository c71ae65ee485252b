"""Which tasks there are: those that have not ended, and for a while those that have."""

import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Any, Protocol

from msgspec import Struct

from runtime.tasks.errors import TaskNotFound
from runtime.tasks.life import Life
from runtime.tasks.status import TaskStatus
from runtime.tasks.task import Task
from runtime.tasks.timers import Timers


class Board(Protocol):
    """Where other processes see the tasks."""

    def note(self, status: TaskStatus) -> None:
        """Show this, soon; never blocks."""

    def close(self) -> None:
        """Show what was noted, and stop."""


class Counts(Struct, frozen=True):
    """How many tasks there were, by how they ended, and how many there are."""

    open: int
    kept: int
    succeeded: int
    failed: int
    cancelled: int
    expired: int


class Ledger:
    """Every task of a manager; ended ones for ``keep_s``, at most ``keep`` of them. Thread-safe."""

    def __init__(self, timers: Timers, keep_s: float, keep: int, board: Board | None) -> None:
        self.board = board
        #: Guards the few steps in which a task changes its state or gets a callback. One for all of them: a lock for
        #: each costs every tiny task more than sharing does, and it is held for less than a microsecond.
        self.steps = threading.Lock()
        self._timers = timers
        self._keep_s = keep_s
        self._keep = keep
        self._lock = threading.Lock()
        self._open: dict[str, Task[Any]] = {}
        self._kept: OrderedDict[str, tuple[Task[Any], float]] = OrderedDict()
        self._ends: Counter[str] = Counter()
        self._idle: list[threading.Event] = []

    def begun(self, task: Task[Any]) -> None:
        """A task was submitted."""
        with self._lock:
            self._open[task.id] = task
        if self.board is not None:
            self.board.note(task.status())

    def withdrawn(self, task: Task[Any]) -> None:
        """It was not: the queue did not take it."""
        with self._lock:
            self._open.pop(task.id, None)
        # For the board, and for whoever has heard of it there.
        task.settle_stopped()

    def ended(self, task: Life[Any]) -> None:
        """It has ended, and is kept for a while if anybody may ask for it."""
        if self.board is not None:
            self.board.note(task.status())
        first = False
        with self._lock:
            mine = self._open.pop(task.id, None)
            if mine is not None:
                self._ends[task.state] += 1
            if mine is not None and task.kept and self._keep > 0:
                first = not self._kept
                self._kept[task.id] = (mine, self._timers.clock() + self._keep_s)
                if len(self._kept) > self._keep:
                    self._kept.popitem(last=False)
            # Last, and with the rest: who sees it without the lock finds the manager informed, and who waits for the
            # manager to be idle finds it true.
            task.ended = True
            # A copy: those who wake take their own out.
            idle = tuple(self._idle) if self._idle and not self._open else ()
        for event in idle:
            event.set()
        if first:
            self._timers.after(self._keep_s, self.prune)

    def prune(self) -> None:
        """Forget what has been kept for long enough."""
        now_s, left_s = self._timers.clock(), None
        with self._lock:
            while self._kept:
                task_id, (_, until_s) = next(iter(self._kept.items()))
                if until_s > now_s:
                    left_s = until_s - now_s
                    break
                del self._kept[task_id]
        if left_s is not None:
            self._timers.after(left_s, self.prune)

    def find(self, task_id: str) -> Task[Any]:
        """The task of this id.

        Raises:
            TaskNotFound: there was none, or it is no longer kept.
        """
        with self._lock:
            if (task := self._open.get(task_id)) is not None:
                return task
            kept = self._kept.get(task_id)
        if kept is None or kept[1] <= self._timers.clock():
            raise TaskNotFound(task_id, self._keep, self._keep_s)
        return kept[0]

    def open_tasks(self) -> list[Task[Any]]:
        """Those that have not ended, the oldest first."""
        with self._lock:
            return list(self._open.values())

    def kept_tasks(self) -> list[Task[Any]]:
        """Those that have ended and are kept, the oldest first."""
        with self._lock:
            return [task for task, _ in self._kept.values()]

    def wait_idle(self, timeout_s: float | None) -> bool:
        """Wait until every task has ended; false if they have not in time."""
        event = threading.Event()
        with self._lock:
            if not self._open:
                return True
            self._idle.append(event)
        try:
            return event.wait(timeout_s)
        finally:
            with self._lock:
                self._idle.remove(event)

    def counts(self) -> Counts:
        """How many there are, and were."""
        with self._lock:
            ends = self._ends
            return Counts(
                len(self._open), len(self._kept), ends["succeeded"], ends["failed"], ends["cancelled"], ends["expired"]
            )


def wait_all(tasks: "list[Task[Any]]", timeout_s: float | None, clock: Callable[[], float] = time.monotonic) -> bool:
    """Wait until all these have ended; false if they have not in time."""
    until_s = None if timeout_s is None else clock() + timeout_s
    return all(task.wait(None if until_s is None else max(0.0, until_s - clock())) for task in tasks)
