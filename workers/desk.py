"""The jobs in a worker's hands: so many of a kind at once, the others in their order."""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from schemas.events import Slots, WorkEvent
from schemas.results import ResultEvent
from schemas.topics import Kind
from workers.context import Announcer, JobContext, Tools
from workers.job import Handlers, Settles, run_job
from workers.leases import Leases
from workers.metrics import WorkerMetrics

log = logging.getLogger(__name__)

#: Jobs that have left their slots and wait to be stored: with so many the worker takes no more, so
#: that a database that is away costs no more memory than this. Two batches of ``outcomes``.
UNSETTLED_JOBS: Final = 1_000


@dataclass(frozen=True)
class Workplace:
    """What every job is given."""

    handlers: Handlers
    tools: Tools
    announcer: Announcer
    outcomes: Settles


class Desk:
    """Runs what it is given, each job in a task of its own; ``freed`` is called when a slot is."""

    def __init__(
        self,
        slots: Slots,
        workplace: Workplace,
        leases: Leases,
        metrics: WorkerMetrics,
        freed: Callable[[], None],
    ) -> None:
        self._slots = slots
        self._turns = {kind: asyncio.Semaphore(slots.free(kind)) for kind in Kind}  # first come, first served
        self._workplace = workplace
        self._leases = leases
        self._metrics = metrics
        self._freed = freed
        self._taken: Counter[Kind] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        for kind in Kind:
            metrics.slots.labels(kind).set(slots.free(kind))
            metrics.slots_busy.labels(kind).set(0)

    def take(self, work: WorkEvent) -> None:
        """Run a job as soon as its kind has a free slot; one that is here already is left alone."""
        if work.lease in self._leases:
            return
        ctx = JobContext(work.job, self._workplace.tools, self._workplace.announcer)
        self._leases.add(work.lease, ctx)
        self._count(work.job.kind, 1)
        task = asyncio.create_task(self._run(work, ctx), name=f"job {work.job.id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def free(self) -> Slots:
        """How many more jobs of each kind can start at once."""

        unsettled = len(self._tasks) - self._taken.total()
        if unsettled >= UNSETTLED_JOBS:
            return Slots()

        def of(kind: Kind) -> int:
            return max(0, self._slots.free(kind) - self._taken[kind])

        return Slots(of(Kind.GENERATE), of(Kind.FINETUNE), of(Kind.EVALUATE))

    async def cleared(self) -> None:
        """Wait until no job is left."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def clear(self) -> None:
        """Drop every job where it stands; their leases run out, and the reaper gives them to others."""
        for task in self._tasks:
            log.warning("%s is dropped: the worker stops", task.get_name())
            task.cancel()
        await self.cleared()

    async def _run(self, work: WorkEvent, ctx: JobContext) -> None:
        try:
            place, slot = self._workplace, self._slot(work.job.kind)
            self._ended(work, await run_job(work, ctx, place.handlers, slot, place.outcomes))
        except Exception:  # a bug in one job must not take the others along
            # The lease is held but renewed no more: it runs out, and the reaper counts the attempt.
            log.exception("job %s: attempt %d crashed", work.job.id, work.job.attempt)
            self._metrics.jobs.labels(work.job.kind, "crashed").inc()
        finally:
            self._leases.drop(work.lease)

    @asynccontextmanager
    async def _slot(self, kind: Kind) -> AsyncIterator[None]:
        try:
            async with self._turns[kind]:
                yield
        finally:
            self._count(kind, -1)
            self._freed()

    def _ended(self, work: WorkEvent, event: ResultEvent | None) -> None:
        job = work.job
        if event is None:
            log.warning("job %s: attempt %d lost its lease", job.id, job.attempt)
            self._metrics.leases_lost.inc()
            self._metrics.jobs.labels(job.kind, "lost").inc()
            return
        if event.error:
            log.info("job %s: %s: %s: %s", job.id, event.status, event.error.code, event.error.message)
        self._metrics.jobs.labels(job.kind, event.status).inc()
        self._metrics.run_s.labels(job.kind).observe(event.timings.run_s)

    def _count(self, kind: Kind, change: int) -> None:
        self._taken[kind] += change
        self._metrics.slots_busy.labels(kind).set(self._taken[kind])
