"""What a pool tells of itself: one struct for every kind of pool."""

from typing import Final, Literal

from ddsketch import LogCollapsingLowestDenseDDSketch
from msgspec import Struct

#: Why a connection was closed.
Reason = Literal["too old", "idle too long", "surplus", "invalid", "broken", "abandoned", "pool closed"]

#: A percentile of the waits is off by at most this share of it.
WAIT_ACCURACY: Final = 0.01
#: Of the sketch's bins, each 2 % wide: enough from a microsecond to a day.
WAIT_BINS: Final = 2_048


class WaitStats(Struct, frozen=True):
    """How long borrowers waited for their turn, those who waited in vain among them.

    The percentiles are over all borrowers, also those who found something at once and waited for nothing.
    """

    waited: int = 0
    total_s: float = 0.0
    longest_s: float = 0.0
    p50_s: float = 0.0
    p95_s: float = 0.0
    p99_s: float = 0.0


class PoolStats(Struct, frozen=True, kw_only=True):
    """A pool at one moment, and since it was opened.

    ``size`` is ``idle`` + ``in_use`` + those that are being closed. A borrower whose connection is being opened has it
    in use. ``borrowed`` counts borrows, ``timeouts`` and ``refused`` those who went away without.
    """

    name: str
    limit: int
    size: int
    idle: int
    in_use: int
    waiting: int
    borrowed: int = 0
    created: int = 0
    creations_failed: int = 0
    closed: dict[Reason, int] = {}
    timeouts: int = 0
    refused: int = 0
    overdue: int = 0
    abandoned: int = 0
    waits: WaitStats = WaitStats()


class Waits:
    """The waits so far, in bounded memory: a DDSketch (Masson, Rim and Lee, PVLDB 12, 2019). Not thread-safe."""

    def __init__(self) -> None:
        self._sketch = LogCollapsingLowestDenseDDSketch(WAIT_ACCURACY, WAIT_BINS)
        self._waited = 0
        self._total_s = 0.0
        self._longest_s = 0.0

    def add(self, waited_s: float) -> None:
        """Somebody waited."""
        self._waited += 1
        self._total_s += waited_s
        self._longest_s = max(self._longest_s, waited_s)
        self._sketch.add(waited_s)

    def stats(self, at_once: int) -> WaitStats:
        """The waits, beside ``at_once`` borrowers who did not wait."""
        return WaitStats(
            waited=self._waited,
            total_s=self._total_s,
            longest_s=self._longest_s,
            p50_s=self._percentile(0.5, at_once),
            p95_s=self._percentile(0.95, at_once),
            p99_s=self._percentile(0.99, at_once),
        )

    def _percentile(self, share: float, at_once: int) -> float:
        # The sketch has only those who waited, so that the others cost nothing.
        rank = share * (at_once + self._waited - 1) - at_once
        if self._waited == 0 or rank < 0:
            return 0.0
        return self._sketch.get_quantile_value(rank / max(1, self._waited - 1)) or 0.0
