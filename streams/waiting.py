"""A job that waits, and a heap of them by rank."""

import heapq
from typing import Final

from runtime.database.jobs import QueuedJob

#: A job that has waited so long counts as one of the next higher priority that has just come; after twice as
#: long a batch job counts as a high one. So a job of priority p that came at t has the rank t + p x AGING_S:
#: an urgency number (Jackson, 1960), which changes nothing between two jobs as time goes by. Five minutes is
#: what somebody waits who asked for "normal" and watches; a batch waits for the night anyway.
AGING_S: Final = 300.0
#: The level of a job that waits no more.
GONE: Final = -1
#: Dead entries are swept out of a heap when they are so many more than the living.
SLACK: Final = 16


class Waiting:
    """A job with its rank, its level at present (0 is served first), and its number in its flow."""

    __slots__ = ("job", "level", "number", "ordinal", "rank_s")

    def __init__(self, job: QueuedJob, since_s: float, number: int) -> None:
        self.job = job
        self.rank_s = since_s + job.priority * AGING_S
        self.number = number
        self.level = GONE
        self.ordinal = 0

    def __lt__(self, other: "Waiting") -> bool:
        return (self.rank_s, self.number) < (other.rank_s, other.number)

    def due_level(self, at_s: float) -> int:
        """The level that the job has come to by then: its priority, less one for each AGING_S of waiting."""
        waited = (at_s - (self.rank_s - self.job.priority * AGING_S)) / AGING_S
        return max(0, self.job.priority - max(0, int(waited)))


class ByRank:
    """Jobs of one level, the lowest rank first. One that leaves it elsewhere is passed over when it comes up."""

    __slots__ = ("_dead", "_heap", "_level")

    def __init__(self, level: int) -> None:
        self._level = level
        self._heap: list[Waiting] = []
        self._dead = 0

    def __len__(self) -> int:
        return len(self._heap) - self._dead

    def push(self, item: Waiting) -> None:
        """Add a job, whose level is this one's."""
        heapq.heappush(self._heap, item)

    def first(self) -> Waiting | None:
        """The job of the lowest rank."""
        while self._heap and self._heap[0].level != self._level:
            heapq.heappop(self._heap)
            self._dead -= 1
        return self._heap[0] if self._heap else None

    def late(self) -> Waiting | None:
        """A job of a high rank; the last one to come, where they came in their order."""
        while self._heap and self._heap[-1].level != self._level:
            self._heap.pop()
            self._dead -= 1
        return self._heap[-1] if self._heap else None

    def soonest(self, most: int) -> list[Waiting]:
        """Some of the first jobs, about in their order."""
        return sorted(item for item in self._heap[: 2 * most] if item.level == self._level)[:most]

    def left(self) -> None:
        """Note that one of the jobs has another level now."""
        self._dead += 1
        if self._dead > len(self._heap) // 2 + SLACK:
            self._heap = [item for item in self._heap if item.level == self._level]
            heapq.heapify(self._heap)
            self._dead = 0
