"""A bounded queue of tasks: first come, first served, for those who wait for a place in it as well."""

import asyncio
import contextlib
import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any

from runtime.tasks.errors import QueueFull, TasksClosed
from runtime.tasks.life import Life


class _Waiter:
    """Somebody who waits for a place; ``taken`` becomes true when his task has it, or false when there is none."""

    __slots__ = ("taken", "task", "wake")

    def __init__(self, task: Life[Any], wake: Callable[[], None]) -> None:
        self.task = task
        self.wake = wake
        self.taken: bool | None = None


class TaskQueue:
    """Tasks that have not started, ``capacity`` at most. Every method may be called from any thread.

    Workers block in a ``SimpleQueue`` of tokens, which is written in C; the tasks lie beside it, where one that is
    cancelled can be taken out. There are never fewer tokens than tasks.
    """

    def __init__(self, name: str, capacity: int) -> None:
        self.name = name
        self.capacity = capacity
        self._lock = threading.Lock()
        self._tasks: OrderedDict[Life[Any], None] = OrderedDict()
        self._tokens: SimpleQueue[None] = SimpleQueue()
        self._waiters: deque[_Waiter] = deque()
        self._idle = 0
        self._refusal = ""
        self._ended = False

    def __len__(self) -> int:
        return len(self._tasks)

    @property
    def waiting(self) -> int:
        """How many wait for a place."""
        return len(self._waiters)

    @property
    def ended(self) -> bool:
        """Whether the workers are to leave once it is empty."""
        return self._ended

    @property
    def understaffed(self) -> bool:
        """Whether more tasks wait than workers are idle."""
        return len(self._tasks) > self._idle

    def offer(self, task: Life[Any]) -> bool:
        """Put the task into the queue if there is a place for it.

        Raises:
            TasksClosed: after ``refuse``.
        """
        with self._lock:
            if self._refusal:
                raise TasksClosed(self._refusal)
            # Nobody is overtaken: while there are any who wait, the queue is full.
            if len(self._tasks) >= self.capacity:
                return False
            # In this order: Ctrl-C in between leaves a token too many, which costs a worker one look.
            self._tokens.put(None)
            self._tasks[task] = None
        return True

    def put(self, task: Life[Any], timeout_s: float | None) -> None:
        """Put the task into the queue, waiting for a place; None: for as long as it takes.

        Raises:
            QueueFull: there was none in time (retryable).
            TasksClosed: the queue takes no more.
        """
        latch = threading.Lock()
        latch.acquire()
        if (waiter := self._wait(task, latch.release)) is None:
            return
        try:
            latch.acquire(timeout=-1 if timeout_s is None else max(0.0, timeout_s))
        except BaseException:  # Ctrl-C
            self._give_up(waiter)
            raise
        self._leave(waiter, timeout_s or 0.0)

    async def put_in_loop(self, task: Life[Any], timeout_s: float | None) -> None:
        """As ``put``, for an event loop. A task whose submission is cancelled does not start, or is cancelled too."""
        loop = asyncio.get_running_loop()
        placed = asyncio.Event()

        def wake() -> None:
            with contextlib.suppress(RuntimeError):  # the loop was closed
                loop.call_soon_threadsafe(placed.set)

        if (waiter := self._wait(task, wake)) is None:
            return
        try:
            async with asyncio.timeout(timeout_s):
                await placed.wait()
        except TimeoutError:
            pass
        except BaseException:
            self._give_up(waiter)
            raise
        self._leave(waiter, timeout_s or 0.0)

    def get(self) -> Life[Any] | None:
        """Wait for the next task; None once the queue has ended."""
        with self._lock:
            self._idle += 1
        while True:
            self._tokens.get()
            with self._lock:
                if self._tasks:
                    self._idle -= 1
                    task, _ = self._tasks.popitem(last=False)
                    if self._waiters:
                        self._place_next()
                    return task
                if self._ended:
                    self._idle -= 1
                    # For the next worker.
                    self._tokens.put(None)
                    return None

    def remove(self, task: Life[Any]) -> bool:
        """Take a task out; false if it has left the queue."""
        with self._lock:
            if task not in self._tasks:
                return False
            del self._tasks[task]
            # Its token, or another one, which is the same; a worker who has it already comes back for another.
            with contextlib.suppress(Empty):
                self._tokens.get_nowait()
            if self._waiters:
                self._place_next()
            return True

    def refuse(self, reason: str) -> None:
        """Take no more; what is queued stays, and those who wait for a place are told."""
        with self._lock:
            self._refusal = reason
            waiters, self._waiters = self._waiters, deque()
            for waiter in waiters:
                waiter.taken = False
        for waiter in waiters:
            waiter.wake()

    def end(self) -> None:
        """Send the workers home once nothing is queued."""
        self.refuse(self._refusal or "the queue has ended.")
        with self._lock:
            self._ended = True
        self._tokens.put(None)

    def _wait(self, task: Life[Any], wake: Callable[[], None]) -> _Waiter | None:
        """Stand in line; None if there is a place at once."""
        with self._lock:
            if self._refusal:
                raise TasksClosed(self._refusal)
            if len(self._tasks) >= self.capacity:
                waiter = _Waiter(task, wake)
                self._waiters.append(waiter)
                return waiter
            self._tokens.put(None)
            self._tasks[task] = None
        return None

    def _place_next(self) -> None:
        waiter = self._waiters.popleft()
        waiter.taken = True
        self._tasks[waiter.task] = None
        self._tokens.put(None)
        waiter.wake()

    def _give_up(self, waiter: _Waiter) -> None:
        with contextlib.suppress(QueueFull, TasksClosed):
            self._leave(waiter, 0.0)
            # It got its place in this moment, and nobody gets the task.
            waiter.task.stop("cancelled")

    def _leave(self, waiter: _Waiter, waited_s: float) -> None:
        with self._lock:
            if waiter.taken is None:
                self._waiters.remove(waiter)
        if waiter.taken is None:
            raise QueueFull(self.name, self.capacity, waited_s)
        if not waiter.taken:
            raise TasksClosed(self._refusal)
