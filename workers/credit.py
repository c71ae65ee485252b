"""What the dispatcher knows of a worker's free slots: what it was told, less what it has sent since."""

from collections import Counter

from schemas.events import Slots
from schemas.topics import Kind


class Credit:
    """Tells when the dispatcher has to hear of a slot that came free: while it knows of enough, it need not."""

    def __init__(self) -> None:
        self._told = Slots()
        self._came: Counter[Kind] = Counter()

    def tell(self, free: Slots) -> None:
        """The dispatcher is told now of so many free slots."""
        self._told = free
        self._came.clear()

    def take(self, kind: Kind) -> None:
        """A job has come."""
        self._came[kind] += 1

    def is_short(self, kind: Kind, free: int, room: int) -> bool:
        """Whether it knows of fewer slots than are ``free``, and of less than half of the ``room`` of an idle worker.

        The other half is for what comes before it hears of more.
        """
        known = self._told.free(kind) - self._came[kind]
        return known < free and 2 * known < room
