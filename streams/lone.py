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
    """Jobs that wait for their last attempt, the oldest first."""

    def __init__(self) -> None:
        self.jobs: dict[tuple[str, str], Waiting] = {}
        self._heap: list[Waiting] = []
        self._patient_until_s = 0.0

    def push(self, job: QueuedJob, at_s: float) -> None:
        """Let a job wait that does not yet."""
        if not self.jobs:
            self._patient_until_s = at_s + PATIENCE_S
        item = Waiting(job, at_s - job.waited_s, len(self.jobs))
        self.jobs[job.tenant, job.id] = item
        heapq.heappush(self._heap, item)

    def remove(self, item: Waiting) -> None:
        """Take a job out."""
        del self.jobs[item.job.tenant, item.job.id]

    def first(self) -> QueuedJob | None:
        """The next one."""
        while self._heap and self.jobs.get((self._heap[0].job.tenant, self._heap[0].job.id)) is not self._heap[0]:
            heapq.heappop(self._heap)
        return self._heap[0].job if self._heap else None

    def take(self, at_s: float) -> QueuedJob:
        """Take the next one out; for the one after it others wait no more than for this."""
        item = heapq.heappop(self._heap)
        self.remove(item)
        self._patient_until_s = at_s + PATIENCE_S
        return item.job

    def reserve(self, workers: Iterable[Worker], runs: RunTimes, at_s: float) -> None:
        """Keep a worker free for the next one if it has waited long enough: the one that is idle the soonest."""
        everybody = list(workers)
        job = self.first()
        if job is None:
            for worker in everybody:
                worker.reserved = False
        elif at_s >= self._patient_until_s and not any(_is_kept(worker, job) for worker in everybody):
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
