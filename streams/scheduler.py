"""Which job goes to which worker next: a pure data structure, without clock, network or database.

Postgres has the queue; this holds its first jobs, a lane for each kind, in the order of priority, then
age. A lane that is full, or whose workers are, holds up no other.
"""

import itertools
from bisect import insort
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from runtime.database.jobs import QueuedJob
from schemas.events import Heartbeat
from schemas.topics import Kind

#: Jobs of a lane that are held in memory, about 1 KB each; the others stay in the database alone.
LANE_JOBS: Final = 5_000


@dataclass(frozen=True, eq=False)
class Assignment:
    """A job for a worker, in one of whose slots it is counted from ``at_s`` on."""

    job: QueuedJob
    worker_id: str
    partition: int
    at_s: float


class Scheduler:
    """Jobs that wait, and workers with their free slots."""

    def __init__(self, lane_jobs: int = LANE_JOBS) -> None:
        self._lanes = {kind: _Lane(lane_jobs) for kind in Kind}
        self._workers: dict[str, _Worker] = {}

    def add(self, jobs: Iterable[QueuedJob]) -> None:
        """Let jobs wait; one that waits already is not added again.

        Of a lane that is full, the last job gives way: it is still in the database.
        """
        for job in jobs:
            self._lanes[job.kind].add(job)

    def refill(self, kind: Kind, jobs: Iterable[QueuedJob], *, complete: bool) -> None:
        """Add the first jobs of a kind that the database has; ``complete``: it has no more."""
        self._lanes[kind].complete = complete
        self.add(jobs)

    def wants_more(self, kind: Kind) -> bool:
        """Whether the lane runs low and the database may have more."""
        return self._lanes[kind].wants_more()

    def heartbeat(self, beat: Heartbeat, at_s: float) -> bool:
        """Take a worker's sign of life, received at ``at_s``; False for one that is older than another."""
        if beat.leaving:
            return self._workers.pop(beat.worker_id, None) is not None
        worker = self._workers.get(beat.worker_id)
        if worker is None:
            # One worker reads a partition: whoever announced it before has lost it.
            self._forget(other for other in self._workers.values() if other.beat.partition == beat.partition)
            self._workers[beat.worker_id] = _Worker(beat, at_s)
            return True
        return worker.update(beat, at_s)

    def remove_silent(self, before_s: float) -> list[str]:
        """Forget the workers that were not heard of since ``before_s``; their ids."""
        return self._forget(worker for worker in self._workers.values() if worker.seen_s < before_s)

    def release_lost(self, before_s: float) -> None:
        """Free the slots of what was assigned before ``before_s`` and never taken: its lease has run out."""
        for worker in self._workers.values():
            worker.release_lost(before_s)

    def next_assignments(self, most: int, at_s: float) -> list[Assignment]:
        """Take out the next jobs that have a worker, at most ``most``."""
        assignments: list[Assignment] = []
        blocked: set[Kind] = set()
        while len(assignments) < most:
            heads = [job for kind, lane in self._lanes.items() if kind not in blocked and (job := lane.head())]
            if not heads:
                break
            job = min(heads, key=_first)
            worker = self._worker_for(job)
            if worker is None:
                blocked.add(job.kind)
                continue
            self._lanes[job.kind].pop()
            assignments.append(worker.assign(job, at_s))
        return assignments

    def sent(self, assignment: Assignment, offset: int) -> None:
        """Note where the assignment's event lies; the worker's position then tells when it was taken."""
        if worker := self._workers.get(assignment.worker_id):
            worker.sent(assignment, offset)

    def release(self, assignment: Assignment) -> None:
        """Give the slot back: the job was not leased, or its event not delivered."""
        if worker := self._workers.get(assignment.worker_id):
            worker.release(assignment)

    def waiting(self, kind: Kind) -> int:
        """The jobs of a kind that wait here."""
        return len(self._lanes[kind])

    def free(self, kind: Kind) -> int:
        """The jobs of a kind that the workers could take now."""
        return sum(max(worker.free(kind), 0) for worker in self._workers.values())

    @property
    def workers(self) -> int:
        """How many workers there are."""
        return len(self._workers)

    def _worker_for(self, job: QueuedJob) -> "_Worker | None":
        """One that holds the model before one that does not; among equals, the one with the most free slots."""
        able = [worker for worker in self._workers.values() if worker.free(job.kind) > 0]
        return max(able, key=lambda worker: (job.model in worker.beat.models, worker.free(job.kind)), default=None)

    def _forget(self, workers: Iterable["_Worker"]) -> list[str]:
        gone = [worker.beat.worker_id for worker in workers]
        for worker_id in gone:
            del self._workers[worker_id]
        return gone


class _Lane:
    """The waiting jobs of one kind, the next one last, where taking it out is cheap."""

    def __init__(self, most: int) -> None:
        self._most = most
        # With their ranks, in ascending order; the number keeps jobs of the same age in the order of their coming.
        self._jobs: list[tuple[int, float, int, QueuedJob]] = []
        self._keys: set[tuple[str, str]] = set()
        self._number = itertools.count()
        self.complete = False

    def __len__(self) -> int:
        return len(self._jobs)

    def wants_more(self) -> bool:
        return not self.complete and len(self._jobs) <= self._most // 2

    def head(self) -> QueuedJob | None:
        return self._jobs[-1][-1] if self._jobs else None

    def add(self, job: QueuedJob) -> None:
        if (job.tenant, job.id) in self._keys:
            return
        insort(self._jobs, (-job.priority, -job.queued_at.timestamp(), -next(self._number), job))
        self._keys.add((job.tenant, job.id))
        if len(self._jobs) > self._most:
            self._discard(self._jobs.pop(0)[-1])
            self.complete = False

    def pop(self) -> None:
        self._discard(self._jobs.pop()[-1])

    def _discard(self, job: QueuedJob) -> None:
        self._keys.discard((job.tenant, job.id))


@dataclass
class _Worker:
    """A worker as of its last heartbeat, and what it was sent since: the offset, or None until Kafka tells it."""

    beat: Heartbeat
    seen_s: float
    _sent: dict[Assignment, int | None] = field(default_factory=dict)
    _occupied: Counter[Kind] = field(default_factory=Counter)

    def free(self, kind: Kind) -> int:
        return 0 if self.beat.draining else self.beat.free.free(kind) - self._occupied[kind]

    def update(self, beat: Heartbeat, at_s: float) -> bool:
        if beat.position < self.beat.position:
            return False
        self.beat, self.seen_s = beat, at_s
        for assignment in [item for item, offset in self._sent.items() if self._taken(offset)]:
            self.release(assignment)
        return True

    def assign(self, job: QueuedJob, at_s: float) -> Assignment:
        assignment = Assignment(job, self.beat.worker_id, self.beat.partition, at_s)
        self._sent[assignment] = None
        self._occupied[job.kind] += 1
        return assignment

    def sent(self, assignment: Assignment, offset: int) -> None:
        if assignment not in self._sent:
            return
        if self._taken(offset):
            # The heartbeat that counts it was faster than Kafka's acknowledgement.
            self.release(assignment)
        else:
            self._sent[assignment] = offset

    def release(self, assignment: Assignment) -> None:
        if assignment in self._sent:
            del self._sent[assignment]
            self._occupied[assignment.job.kind] -= 1

    def release_lost(self, before_s: float) -> None:
        for assignment in [item for item in self._sent if item.at_s < before_s]:
            self.release(assignment)

    def _taken(self, offset: int | None) -> bool:
        return offset is not None and offset < self.beat.position


def _first(job: QueuedJob) -> tuple[int, float]:
    return (job.priority, job.queued_at.timestamp())
