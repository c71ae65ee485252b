"""Last attempts: each has a worker for itself, so that what dies with it died of it."""

import heapq
from collections.abc import Iterable, Sequence
from typing import Final

from runtime.database.jobs import QueuedJob
from schemas.topics import Kind
from streams.credits import Worker
from streams.estimates import RunTimes
from streams.waiting import Waiting

#: How long a last attempt waits for an idle worker before one is kept free for it; and how long the others have
#: all the workers again before one is kept for the next.
PATIENCE_S: Final = 5.0


class Lone:
    """Jobs that wait for their last attempt, of each kind the oldest first: a kind without a worker holds up none."""

    def __init__(self) -> None:
        self.jobs: dict[tuple[str, str], Waiting] = {}
        self._heaps: dict[Kind, list[Waiting]] = {kind: [] for kind in Kind}
        self._patient_until_s = dict.fromkeys(Kind, 0.0)

    def push(self, job: QueuedJob, at_s: float) -> None:
        """Let a job wait that does not yet."""
        if self.first(job.kind) is None:
            self._patient_until_s[job.kind] = at_s + PATIENCE_S
        item = Waiting(job, at_s - job.waited_s, len(self.jobs))
        self.jobs[job.tenant, job.id] = item
        heapq.heappush(self._heaps[job.kind], item)

    def remove(self, item: Waiting) -> None:
        """Take a job out."""
        del self.jobs[item.job.tenant, item.job.id]

    def first(self, kind: Kind) -> QueuedJob | None:
        """The next one of a kind."""
        heap = self._heaps[kind]
        while heap and self.jobs.get((heap[0].job.tenant, heap[0].job.id)) is not heap[0]:
            heapq.heappop(heap)
        return heap[0].job if heap else None

    def take(self, kind: Kind, at_s: float) -> QueuedJob:
        """Take the next one out; for the one after it others wait no more than for this."""
        item = heapq.heappop(self._heaps[kind])
        self.remove(item)
        self._patient_until_s[kind] = at_s + PATIENCE_S
        return item.job

    def reserve(self, workers: Iterable[Worker], runs: RunTimes, at_s: float) -> None:
        """Keep a worker free for the next of a kind that has waited long enough: the one that is idle the soonest."""
        everybody = list(workers)
        wanting = [job for kind in Kind if (job := self.first(kind))]
        for worker in everybody:
            worker.reserved = worker.reserved and any(worker.slots(job.kind) > 0 for job in wanting)
        for job in wanting:
            late = at_s >= self._patient_until_s[job.kind]
            if late and not any(_is_kept(worker, job) for worker in everybody):
                willing = [worker for worker in everybody if worker.open and worker.slots(job.kind)]
                if willing:
                    min(willing, key=lambda worker: _idle_in_s(worker, runs)).reserved = True


def idle_worker(workers: Iterable[Worker], job: QueuedJob) -> Worker | None:
    """An idle worker that has slots for the job's kind: one that holds its model before others."""
    idle: Sequence[Worker] = [
        worker for worker in workers if worker.idle and not worker.alone and worker.slots(job.kind) > 0
    ]
    return max(idle, key=lambda worker: (worker.reserved, worker.holds(job.model)), default=None)


def _is_kept(worker: Worker, job: QueuedJob) -> bool:
    return worker.reserved and not worker.beat.draining and worker.slots(job.kind) > 0


def _idle_in_s(worker: Worker, runs: RunTimes) -> float:
    return max((runs.run_s(kind) for kind in Kind if worker.load(kind) > 0 and worker.slots(kind)), default=0.0)
