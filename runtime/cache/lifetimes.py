"""For how long a value is good, when it is loaded ahead of time, and when it may stand in for a loader that fails."""

import math
from collections.abc import Callable
from typing import Final

from msgspec import Struct

#: A value is loaded anew no earlier than after this share of its life, however long its loader takes.
EARLIEST: Final = 0.5


class Lifetime(Struct, frozen=True, kw_only=True):
    """How long the values of one kind are good."""

    ttl_s: float
    #: Up to this share of ``ttl_s`` is taken off by chance, so that what was stored together does not end together.
    jitter: float = 0.1
    #: How early values are loaded anew, in times that their loader takes (XFetch's beta); 0 is never.
    early: float = 1.0
    #: For how long after its end a value stands in for a loader that fails.
    stale_s: float = 0.0
    #: For how long "there is nothing" is kept; None is not at all.
    absent_s: float | None = None
    #: For how long a process waits for what another one is loading before it does so too.
    wait_s: float = 60.0

    def __post_init__(self) -> None:
        finite = all(math.isfinite(number) for number in (self.ttl_s, self.stale_s, self.early, self.absent_s or 0))
        if not finite or self.ttl_s <= 0 or self.stale_s < 0 or self.early < 0 or not 0 <= self.jitter < 1:
            raise ValueError(f"{self} has a time that is none: ttl_s is above 0, jitter from 0 to below 1.")
        if self.absent_s is not None and self.absent_s <= 0:
            raise ValueError(f"absent_s is {self.absent_s}; it is above 0, or None for not at all.")

    def draw_s(self, draw: Callable[[], float], *, absent: bool) -> float:
        """How long a value that is stored now is the answer, in seconds; never longer than was asked for."""
        whole_s = self.ttl_s if not absent or self.absent_s is None else self.absent_s
        return whole_s * (1 - self.jitter * draw())

    def lead_s(self, draw: Callable[[], float], load_s: float, whole_s: float) -> float:
        """How long before its end a value of this loader is loaded anew, in seconds.

        XFetch (Vattani, Chierichetti, Lowenstein: "Optimal probabilistic cache stampede prevention", VLDB 2015)
        draws ``load_s · β · -ln(random)`` at every request. Here a process draws once for an entry, since all its
        requests share one load, and adds the time of the load, so that it is done by the end.
        """
        if self.early == 0:
            return 0.0
        lead_s = load_s * (1 - self.early * math.log(1 - draw()))
        return min(lead_s, (1 - EARLIEST) * whole_s)
