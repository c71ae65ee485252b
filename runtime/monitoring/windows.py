"""What an operation did lately, in windows of time of which the oldest are forgotten."""

import math
from collections import deque
from collections.abc import Callable
from typing import Final

from msgspec import Struct

from runtime.monitoring.intervals import Interval, wilson
from runtime.monitoring.sketch import Sketch, merged

WINDOW_S: Final = 15.0
#: Half an hour, of an operation that is used all the time. A window takes about 0.5 KB.
WINDOWS: Final = 120


class Window(Struct, frozen=True):
    """A window that is over; ``begins_s`` is of the operation's clock, ``sketch`` in its compact form."""

    begins_s: float
    returned: int
    errors: int
    cancelled: int
    p50_s: float
    p99_s: float
    sketch: bytes


class Recent(Struct, frozen=True):
    """The calls that ended within a span of time; a cancelled one counts neither for nor against an operation."""

    returned: int
    errors: int
    cancelled: int
    durations: Sketch

    def error_ratio(self) -> Interval:
        """Errors to calls that came to their end, with its interval at 95 % (Wilson, 1927)."""
        return wilson(self.errors, self.errors + self.returned)


class Windows:
    """The windows in which something ended, and one that is open. Not thread-safe.

    ``closed`` is given the durations of each window that closes.
    """

    def __init__(self, closed: Callable[[Sketch], None]) -> None:
        self._on_close = closed
        self._closed: deque[Window] = deque(maxlen=WINDOWS)
        self._open = _Open(0)

    def returned(self, ended_s: float, durations_s: list[float]) -> None:
        """Add calls that ended in the window of ``ended_s``. What comes late counts in the open one."""
        self._advance(ended_s)
        self._open.durations.add(durations_s)

    def raised(self, ended_s: float, *, cancelled: bool) -> None:
        """Add a call that did not return; as ``returned``."""
        self._advance(ended_s)
        if cancelled:
            self._open.cancelled += 1
        else:
            self._open.errors += 1

    def open_durations(self) -> Sketch:
        """What the open window holds: no closed one has it."""
        return self._open.durations

    def all(self) -> list[Window]:
        """Oldest first; the open one is not among them."""
        return list(self._closed)

    def recent(self, now_s: float, span_s: float) -> Recent:
        """The windows that ended, or will end, after ``now_s - span_s``."""
        windows = [one for one in (*self._closed, self._open.close()) if one.begins_s + WINDOW_S > now_s - span_s]
        return Recent(
            sum(one.returned for one in windows),
            sum(one.errors for one in windows),
            sum(one.cancelled for one in windows),
            merged(Sketch.decode(one.sketch) for one in windows),
        )

    def _advance(self, ended_s: float) -> None:
        index = window_of(ended_s)
        if index <= self._open.index:
            return
        if not self._open.empty():
            self._closed.append(self._open.close())
            self._on_close(self._open.durations)
        self._open = _Open(index)


def window_of(at_s: float) -> int:
    """The number of the window that a moment is in."""
    return math.floor(at_s / WINDOW_S)


class _Open:
    def __init__(self, index: int) -> None:
        self.index = index
        self.errors = 0
        self.cancelled = 0
        self.durations = Sketch()

    def empty(self) -> bool:
        return not (self.errors or self.cancelled or self.durations.count)

    def close(self) -> Window:
        durations = self.durations
        return Window(
            self.index * WINDOW_S,
            durations.count,
            self.errors,
            self.cancelled,
            durations.quantile(0.5),
            durations.quantile(0.99),
            durations.encode(),
        )
