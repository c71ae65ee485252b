"""How many jobs a worker takes beyond its slots, so that a slot that comes free finds its next job there."""

from typing import Final

from schemas.events import Slots
from schemas.topics import Kind

#: What a slot would wait for its next job on a busy machine: the heartbeat that tells of it, a lease, a hop through
#: Kafka. A job waits about as long on the desk instead, where no other worker can take it.
PATH_S: Final = 0.05
#: The weight of the newest job in the mean.
NEWEST: Final = 0.05


class Ahead:
    """Looks ahead by the jobs that begin within ``PATH_S`` (Little, 1961): none where they take seconds.

    It is never more than the slots, however short the jobs are.
    """

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self._mean_s: dict[Kind, float] = {}

    def ended(self, kind: Kind, seconds: float) -> None:
        """A job has left its slot after so long."""
        mean_s = self._mean_s.get(kind, seconds)
        self._mean_s[kind] = mean_s + NEWEST * (seconds - mean_s)

    def of(self, kind: Kind) -> int:
        """So many jobs; none before the first of the kind has ended."""
        slots, mean_s = self._slots.free(kind), self._mean_s.get(kind)
        return 0 if mean_s is None else int(slots * PATH_S / max(mean_s, PATH_S))

    def more(self) -> Slots:
        """So many jobs of each kind."""
        return Slots(self.of(Kind.GENERATE), self.of(Kind.FINETUNE), self.of(Kind.EVALUATE))

    def room(self) -> Slots:
        """So many, and one a slot."""
        more, slots = self.more(), self._slots
        return Slots(slots.generate + more.generate, slots.finetune + more.finetune, slots.evaluate + more.evaluate)
