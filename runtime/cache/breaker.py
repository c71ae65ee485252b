"""Leaves a server alone that fails, and tries it now and then until it answers."""

import threading
from collections.abc import Callable
from typing import Final

from runtime.cache.clock import Clock

#: Failures in a row after which the server is left alone.
STRIKES: Final = 3
#: For how long at first, and at most; each failed try doubles it.
HOLD_S: Final = 0.5
LONGEST_HOLD_S: Final = 15.0


class Breaker:
    """Closed while calls succeed; open after ``STRIKES`` failures in a row, but for one try a hold. Thread-safe."""

    def __init__(self, clock: Clock, on_open: Callable[[], None] = lambda: None) -> None:
        self._clock = clock
        self._on_open = on_open
        self._lock = threading.Lock()
        self._strikes = 0
        self._hold_s = HOLD_S
        #: None while it is closed.
        self._next_try_s: float | None = None

    @property
    def closed(self) -> bool:
        """Whether every call is let through."""
        return self._next_try_s is None

    def allows(self) -> bool:
        """Whether a call may be made now; its outcome has to be told."""
        if self.closed:
            return True
        with self._lock:
            now_s = self._clock.monotonic_s()
            # It may have been closed since.
            if self._next_try_s is None or now_s < self._next_try_s:
                return self.closed
            # The others wait for how this one's try ends; if that is never told, for the next.
            self._next_try_s = now_s + self._hold_s
            return True

    def succeeded(self) -> None:
        """Note an answer: the server is asked again by everybody."""
        if self._strikes:
            with self._lock:
                self._strikes = 0
                self._hold_s = HOLD_S
                self._next_try_s = None

    def failed(self) -> None:
        """Note a failure."""
        with self._lock:
            self._strikes += 1
            if self._strikes < STRIKES:
                return
            if self._next_try_s is not None:
                self._hold_s = min(2 * self._hold_s, LONGEST_HOLD_S)
            opened = self._next_try_s is None
            # Jitter, so that processes do not all try at once.
            self._next_try_s = self._clock.monotonic_s() + self._hold_s * (1 - 0.5 * self._clock.draw())
        if opened:
            self._on_open()
