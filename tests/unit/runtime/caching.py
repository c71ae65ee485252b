"""What the tests of the cache share: a clock that they move, and a loader that counts."""

from collections.abc import Callable
from dataclasses import dataclass, field

from runtime.cache import Clock


class Time:
    """A clock that stands still until it is told."""

    def __init__(self) -> None:
        self.now_s = 1_000.0
        #: In the middle: jitter takes off half of what it may.
        self.drawn = 0.5
        self.clock = Clock(lambda: self.now_s, lambda: 1_700_000_000.0 + self.now_s, lambda: self.drawn)

    def pass_s(self, seconds: float) -> None:
        """Let so much time pass."""
        self.now_s += seconds


@dataclass
class Loader:
    """Gives 1, then 2, and so on; or fails while ``error`` is set. ``before`` runs within each load."""

    before: Callable[[], object] = lambda: None
    error: Exception | None = None
    calls: int = field(default=0)

    def __call__(self) -> int:
        self.calls += 1
        number = self.calls
        self.before()
        if self.error:
            raise self.error
        return number
