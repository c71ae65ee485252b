"""What is known of one operation: how long it takes, how it fails, how often it runs at this moment.

A call only notes when it began and ended. These notes are folded into sketches a thousand at a time, and before
anybody reads: that keeps a call's own cost under half a microsecond, and the memory bounded.
"""

import itertools
import threading
from collections import Counter
from collections.abc import Callable
from operator import sub
from time import perf_counter
from typing import Final, NamedTuple, TypeVar, TypeVarTuple

from runtime.monitoring.sketch import Sketch, merged
from runtime.monitoring.windows import Recent, Window, Windows, window_of

Answer = TypeVar("Answer")
Arguments = TypeVarTuple("Arguments")

#: Calls whose notes wait; the one that makes it so many folds them, which takes it about 0.3 ms.
WAITING: Final = 1_024
#: A note is two numbers.
FULL: Final = 2 * WAITING
#: Types of error that are counted by name; any more are ``other``, so that nobody can fill Prometheus' memory.
ERROR_TYPES: Final = 30
OTHER: Final = "other"


class Reading(NamedTuple):
    """An operation since its process started. ``durations`` are of calls that returned, ``failed`` of errors.

    They are apart because an error that comes at once is no fast call (Beyer et al., Site Reliability Engineering,
    2016, chapter 6). How long a call took that was cancelled says nothing.
    """

    name: str
    durations: Sketch
    failed: Sketch
    errors: dict[str, int]
    cancelled: int
    in_flight: int
    windows: list[Window]


class _Raised(NamedTuple):
    begun_s: float
    ended_s: float
    #: None where the call was cancelled.
    error: str | None


class Operation:
    """Thread-safe. A call begins with ``begin`` and ``clock``, and ends with ``returned`` or ``raised``."""

    def __init__(self, name: str, clock: Callable[[], float] = perf_counter) -> None:
        self.name = name
        self.clock = clock
        #: Moments in turns: a call's beginning, its end. Its methods are atomic, so calls need no lock.
        self.notes: list[float] = []
        #: Count a call that begins: as atomic, for it is one call into C.
        self.begin = itertools.count().__next__
        self._raised: list[_Raised] = []
        self._lock = threading.Lock()
        self._looked = 0
        self._durations = Sketch()
        self._failed = Sketch()
        self._errors: Counter[str] = Counter()
        self._cancelled = 0
        self._windows = Windows(self._durations.merge)

    def call(self, function: Callable[[*Arguments], Answer], *arguments: *Arguments) -> Answer:
        """Call a function and measure it, where the name is known only now."""
        self.begin()
        begun_s = self.clock()
        try:
            answer = function(*arguments)
        except BaseException as error:
            self.raised(begun_s, error)
            raise
        self.returned(begun_s)
        return answer

    def returned(self, begun_s: float) -> None:
        """Note a call that returned."""
        self.notes.extend((begun_s, self.clock()))
        if len(self.notes) >= FULL:
            self.fold()

    def raised(self, begun_s: float, error: BaseException) -> None:
        """Note a call that raised: an ``Exception`` is an error.

        Anything else (CancelledError, GeneratorExit, KeyboardInterrupt) is somebody's wish that it stops.
        """
        name = type(error).__name__ if isinstance(error, Exception) else None
        self._raised.append(_Raised(begun_s, self.clock(), name))
        if len(self._raised) >= WAITING:
            self.fold()

    def fold(self) -> None:
        """Take the notes into the sketches, unless somebody is about to.

        A call never waits here: the lock may be held by its own thread, in which a signal or the garbage collector
        has begun another call.
        """
        if self._lock.acquire(blocking=False):
            try:
                self._fold()
            finally:
                self._lock.release()

    def reading(self) -> Reading:
        """Everything until now, as a copy. Not for a signal handler: it waits for whoever folds."""
        with self._lock:
            self._fold()
            durations = merged((self._durations, self._windows.open_durations()))
            ended = durations.count + self._errors.total() + self._cancelled
            ended += len(self.notes) // 2 + len(self._raised)
            # The counter can be read only by counting on: looks are taken off again.
            begun = self.begin() - self._looked
            self._looked += 1
            return Reading(
                self.name,
                durations,
                merged((self._failed,)),
                dict(self._errors),
                self._cancelled,
                max(0, begun - ended),
                self._windows.all(),
            )

    def recent(self, span_s: float) -> Recent:
        """The calls that ended within the last ``span_s``, rounded up to whole windows."""
        with self._lock:
            self._fold()
            return self._windows.recent(self.clock(), span_s)

    def _fold(self) -> None:
        # Calls go on noting while this runs: what is taken is cut off in one step, and nothing else.
        taken = len(self.notes) // 2 * 2
        notes = self.notes[:taken]
        del self.notes[:taken]
        raised = self._raised[:]
        del self._raised[: len(raised)]
        begun_s, ended_s = notes[::2], notes[1::2]
        # They ended in this order, but for what threads overtook each other by.
        if not raised and (not ended_s or window_of(ended_s[0]) == window_of(ended_s[-1])):
            self._take(begun_s, ended_s)
            return
        windows: dict[int, tuple[list[float], list[float], list[_Raised]]] = {}
        for begun, ended in zip(begun_s, ended_s, strict=True):
            of_window = windows.setdefault(window_of(ended), ([], [], []))
            of_window[0].append(begun)
            of_window[1].append(ended)
        for one in raised:
            windows.setdefault(window_of(one.ended_s), ([], [], []))[2].append(one)
        for _, (begins, ends, errors) in sorted(windows.items()):
            self._take(begins, ends)
            for error in errors:
                self._take_raised(error)

    def _take(self, begun_s: list[float], ended_s: list[float]) -> None:
        if ended_s:
            self._windows.returned(ended_s[0], list(map(sub, ended_s, begun_s)))

    def _take_raised(self, one: _Raised) -> None:
        self._windows.raised(one.ended_s, cancelled=one.error is None)
        if one.error is None:
            self._cancelled += 1
            return
        known = one.error in self._errors or len(self._errors) < ERROR_TYPES
        self._errors[one.error if known else OTHER] += 1
        self._failed.add([one.ended_s - one.begun_s])
