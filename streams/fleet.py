"""The workers that there are, as of their heartbeats and of what they were sent since."""

from collections.abc import Iterable, ValuesView
from dataclasses import dataclass
from typing import Final

from schemas.events import Heartbeat
from schemas.topics import Kind
from streams.credits import Assignment, Progress, Worker

_NOTHING: Final[frozenset[str]] = frozenset()
#: Workers that lost their partition to another and may not know it yet: so many of them are remembered.
SUPERSEDED: Final = 1_000


@dataclass(frozen=True)
class News:
    """What a heartbeat tells against the one before; a worker that was not known is ``new``, and tells nothing else."""

    new: bool
    progress: Iterable[Progress] = ()
    #: Models that have come into its memory, with the seconds that each took.
    loaded: Iterable[tuple[str, float]] = ()
    #: Models that were on their way, and are not coming.
    dropped: frozenset[str] = _NOTHING


class Fleet:
    """Workers by their ids. Those whose slots or models have changed are noted until ``take_changed``."""

    def __init__(self) -> None:
        self.by_id: dict[str, Worker] = {}
        # A dict for its order.
        self._changed: dict[str, None] = {}
        self._superseded: dict[str, None] = {}

    def __len__(self) -> int:
        return len(self.by_id)

    @property
    def workers(self) -> ValuesView[Worker]:
        """All of them."""
        return self.by_id.values()

    def heartbeat(self, beat: Heartbeat, at_s: float) -> News | None:
        """Take a sign of life, received at ``at_s``; None for one that is older than another.

        One worker reads a partition, and gives itself a new id when it starts: whoever announced the partition before
        has lost it for good. It may have been stopped, and say something before it hears of that.
        """
        if beat.worker_id in self._superseded:
            return None
        worker = self.by_id.get(beat.worker_id)
        if worker is None:
            self._changed[beat.worker_id] = None
            elder = [other.id for other in self.workers if other.beat.partition == beat.partition]
            self._supersede(self.forget(elder))
            self.by_id[beat.worker_id] = Worker(beat, at_s)
            return News(new=True)
        progress = worker.update(beat, at_s)
        if progress is None:
            return None
        self._changed[beat.worker_id] = None
        before = set(worker.held())
        loaded = worker.loaded()
        return News(new=False, progress=progress, loaded=loaded, dropped=frozenset(before.difference(worker.held())))

    def silent(self, before_s: float) -> list[str]:
        """The ids of those that were not heard of since ``before_s``."""
        return [worker.id for worker in self.workers if worker.seen_s < before_s]

    def forget(self, worker_ids: Iterable[str]) -> list[str]:
        """Drop workers; the ids of those that there were."""
        return [worker_id for worker_id in worker_ids if self.by_id.pop(worker_id, None)]

    def _supersede(self, worker_ids: Iterable[str]) -> None:
        self._superseded |= dict.fromkeys(worker_ids)
        while len(self._superseded) > SUPERSEDED:
            del self._superseded[next(iter(self._superseded))]

    def free(self, kind: Kind) -> int:
        """The jobs of a kind that they could take now."""
        return sum(max(worker.free(kind), 0) for worker in self.workers)

    def slots(self, kind: Kind) -> int:
        """The jobs of a kind that those which take any run at once."""
        return sum(worker.slots(kind) for worker in self.workers if worker.open)

    def held(self) -> set[str]:
        """The models in the memory of any of them, and those on their way there."""
        return {model for worker in self.workers for model in worker.held()}

    def sent(self, assignment: Assignment, offset: int) -> None:
        """Note where the assignment's event lies; the worker's position then tells when it was taken."""
        if worker := self.by_id.get(assignment.worker_id):
            worker.sent(assignment, offset)
            self._changed[worker.id] = None

    def release(self, assignment: Assignment) -> None:
        """Give the slot back: the job was not leased, or its event not delivered."""
        if worker := self.by_id.get(assignment.worker_id):
            worker.revoke(assignment)
            self._changed[worker.id] = None

    def release_lost(self, before_s: float) -> None:
        """Free the slots of what was assigned before ``before_s`` and never taken: its lease has run out."""
        for worker in self.workers:
            for assignment in worker.lost(before_s):
                self.release(assignment)

    def take_changed(self) -> list[Worker]:
        """Those that have changed since the last call, and are still there."""
        changed = [worker for worker_id in self._changed if (worker := self.by_id.get(worker_id))]
        self._changed.clear()
        return changed
