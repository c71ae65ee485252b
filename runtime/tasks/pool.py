"""Workers for one queue: daemon threads that run tasks, or that each look after a process that does."""

import threading
import time
from collections.abc import Callable

from runtime.tasks.queue import TaskQueue

#: What each thread of a pool does until the queue has ended.
Work = Callable[[TaskQueue], None]


class Pool:
    """At most ``size`` workers, started when tasks wait and nobody is idle.

    The threads are daemons: one that never comes back from its task does not keep the process from ending.
    """

    def __init__(self, queue: TaskQueue, size: int, work: Work) -> None:
        self.queue = queue
        self._size = size
        self._work = work
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._missing = size

    def grow(self) -> None:
        """Start one more worker if one is wanted; to be called after each submission."""
        # Without the lock: once all are there, this is what a submission pays.
        if not self._missing:
            return
        with self._lock:
            if not self._missing or not self.queue.understaffed:
                return
            self._missing -= 1
            name = f"{self.queue.name}-{self._size - self._missing}"
            thread = threading.Thread(target=self._work, args=(self.queue,), name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def close(self, timeout_s: float) -> bool:
        """Send the workers home and wait for them; false if one is still at its task."""
        self.queue.end()
        with self._lock:
            self._missing = 0
            threads = list(self._threads)
        until_s = time.monotonic() + timeout_s
        for thread in threads:
            thread.join(max(0.0, until_s - time.monotonic()))
        return not any(thread.is_alive() for thread in threads)
