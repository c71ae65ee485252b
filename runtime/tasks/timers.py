"""One thread that does things at their time: deadlines, graces, and what is no longer kept."""

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable
from typing import Final

log = logging.getLogger(__name__)

#: Forgotten entries stay in the heap until they are due, unless they are more than this and than half of it.
FORGOTTEN: Final = 256
#: The clock of the operating system can't tell longer waits, such as one for infinity: "keep results for ever".
LONGEST_S: Final = 86_400.0


class Timers:
    """Calls functions at times of ``clock``, in seconds; they must not block.

    Its thread starts with the first one. Without a thread somebody else calls ``run_due``: a test, whose clock is set.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, *, threaded: bool = True) -> None:
        self.clock = clock
        self._threaded = threaded
        self._heap: list[tuple[float, int, list[Callable[[], None]]]] = []
        self._order = itertools.count()
        self._forgotten = 0
        self._changed = threading.Condition(threading.Lock())
        self._thread: threading.Thread | None = None
        self._closed = False

    def __len__(self) -> int:
        return len(self._heap)

    def after(self, delay_s: float, action: Callable[[], None]) -> Callable[[], None]:
        """Call ``action`` once so much time has passed; what is returned forgets it, and may be called at any time."""
        entry = (self.clock() + delay_s, next(self._order), [action])
        with self._changed:
            heapq.heappush(self._heap, entry)
            if self._thread is None and self._threaded and not self._closed:
                self._thread = threading.Thread(target=self._run, name="task-timers", daemon=True)
                self._thread.start()
            if self._heap[0] is entry:
                self._changed.notify()
        return lambda: self._forget(entry[2])

    def run_due(self) -> float | None:
        """Do what is due; seconds until the next, None if there is none."""
        while True:
            with self._changed:
                if not self._heap:
                    return None
                left_s = self._heap[0][0] - self.clock()
                if left_s > 0:
                    return left_s
                action = heapq.heappop(self._heap)[2]
                if action:
                    do = action.pop()
                else:
                    self._forgotten -= 1
                    continue
            try:
                do()
            except Exception:  # the others' deadlines do not depend on it
                log.exception("a timer failed")

    def close(self) -> None:
        """Do nothing more."""
        with self._changed:
            self._closed = True
            self._heap.clear()
            self._changed.notify()

    def _run(self) -> None:
        while not self._closed:
            left_s = self.run_due()
            with self._changed:
                # Something may have been added since.
                if self._heap:
                    left_s = max(0.0, self._heap[0][0] - self.clock())
                if left_s != 0 and not self._closed:
                    self._changed.wait(None if left_s is None else min(left_s, LONGEST_S))

    def _forget(self, action: list[Callable[[], None]]) -> None:
        with self._changed:
            if not action or self._closed:
                return
            action.clear()
            self._forgotten += 1
            if self._forgotten > FORGOTTEN and self._forgotten > len(self._heap) / 2:
                self._heap = [entry for entry in self._heap if entry[2]]
                heapq.heapify(self._heap)
                self._forgotten = 0
