"""The jobs in a worker's hands: so many of a kind at once, the others in their order."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final

from schemas.errors import JobPaused, JobReturned, JobSuspended, ServerUnreachable
from schemas.events import Lease, Slots, State, WorkEvent
from schemas.results import ResultEvent
from schemas.topics import Kind
from workers.broken import WorkerBroken
from workers.checkpoints import Checkpoints
from workers.context import Announcer, JobContext, Tools
from workers.deadline import watch_deadline
from workers.job import Handlers, run_job
from workers.leases import Leases
from workers.metrics import WorkerMetrics
from workers.outcomes import Outcomes
from workers.places import Places
from workers.returns import Returns, times_returned
from workers.turns import Turns

log = logging.getLogger(__name__)

#: Jobs that have left their slots and wait to be stored: with so many, or with outcomes of so many bytes as these say,
#: the worker takes no more, so that a database that is away costs a bounded memory. Two batches of ``outcomes``.
UNSETTLED_JOBS: Final = 1_000
#: More progress events than a worker sends of a job; so many leases of them fit what JSON readers can count.
EVENTS_PER_LEASE: Final = 2**32
#: Why a worker gives its jobs back.
LEAVING: Final = JobReturned("The worker stops.")


@dataclass(frozen=True)
class Workplace:
    """What every job is given."""

    handlers: Handlers
    tools: Tools
    announcer: Announcer
    outcomes: Outcomes
    checkpoints: Callable[[Lease], Checkpoints]


@dataclass
class Held:
    """A job on the desk. ``counted``: it has a slot or waits for one; ``begun``: it has one, or had."""

    work: WorkEvent
    ctx: JobContext
    deadline: asyncio.TimerHandle | None = None
    counted: bool = True
    begun: bool = False


class Desk:
    """Runs what it is given, each job in a task of its own.

    ``freed`` is called when the dispatcher has to hear of a slot that is free.
    """

    def __init__(
        self,
        slots: Slots,
        workplace: Workplace,
        leases: Leases,
        metrics: WorkerMetrics,
        freed: Callable[[], None],
    ) -> None:
        self._places = Places(slots, metrics)
        self._turns = {kind: Turns(slots.free(kind)) for kind in Kind}
        self._workplace = workplace
        self._leases = leases
        self._metrics = metrics
        self._freed = freed
        self._jobs: dict[asyncio.Task[None], Held] = {}
        self._returns = Returns(leases, workplace.announcer, metrics)
        self._draining = False
        #: Why the worker can't go on, once it can't.
        self.broken: asyncio.Future[WorkerBroken] = asyncio.get_running_loop().create_future()

    def take(self, work: WorkEvent) -> None:
        """Run a job as soon as its kind has a free slot; one that is here already is left alone.

        While the desk drains, a job that comes is given back; so is one more than it ever asked for. Two dispatchers
        that both have the workers for a moment may send that: another worker may have a slot for it.
        """
        if work.lease in self._leases or work.lease in self._returns:
            return
        kind = work.job.kind
        if self._draining or not self._places.has_one(kind):
            if not self._draining:
                self._metrics.unwanted.labels(kind).inc()
            self._returns.begin([work])
            return
        place = self._workplace
        ctx = JobContext(work.job, place.tools, place.announcer, place.checkpoints(work.lease), _first_event(work))
        self._leases.add(work.lease, ctx)
        self._places.take(work.job)
        self._tell_if_short(kind)
        held = Held(work, ctx, watch_deadline(work, ctx))
        task = asyncio.create_task(self._run(held), name=f"job {work.job.id}")
        self._jobs[task] = held
        task.add_done_callback(self._done)

    def ahead(self) -> Slots:
        """How many jobs of each kind it takes beyond its slots."""
        return self._places.ahead.more()

    def room(self) -> Slots:
        """How many jobs of each kind it takes: one a slot, and those that it has at hand for when one comes free."""
        return self._places.ahead.room()

    def free(self) -> Slots:
        """How many more jobs of each kind it takes now, for the dispatcher to hear."""
        unsettled = len(self._jobs) - self._places.taken
        return self._places.offer(closed=unsettled >= UNSETTLED_JOBS or self._workplace.outcomes.full)

    def models(self) -> set[str]:
        """The models of the jobs that have a slot or wait for one."""
        return self._places.models

    async def cleared(self) -> None:
        """Wait until no job is left."""
        while left := {*self._jobs, *self._returns.tasks}:
            await asyncio.wait(left)

    def drain(self) -> None:
        """Give back what has not begun, and whatever can be continued from a checkpoint once that is stored.

        Generations go on, to their end or to ``expel``.
        """
        self._draining = True
        unbegun = {task: held.work for task, held in self._jobs.items() if not held.begun}
        for task in unbegun:
            task.cancel()
        self._returns.begin(unbegun.values())
        for held in self._jobs.values():
            if held.work.job.kind is not Kind.GENERATE:
                held.ctx.stop(LEAVING)

    async def expel(self, grace_s: float) -> None:
        """Give back every job that is left; after ``grace_s`` those too that do not stop by themselves."""
        for held in self._jobs.values():
            held.ctx.stop(LEAVING)
        with suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                await self.cleared()
        # Nothing of theirs is written once their tasks have ended, so another attempt may begin.
        left = [held.work for held in self._jobs.values()]
        await self.clear()
        if left:
            await self._returns.give_back(left, State.QUEUED)

    async def clear(self) -> None:
        """Drop every job where it stands; their leases run out, and the reaper gives them to others."""
        for task in self._jobs:
            log.warning("%s is dropped: the worker stops", task.get_name())
        for task in (*self._jobs, *self._returns.tasks):
            task.cancel()
        await self.cleared()

    async def _run(self, held: Held) -> None:
        work, place = held.work, self._workplace
        try:
            await self._leases.confirm(work, held.ctx)
            event = await run_job(work, held.ctx, place.handlers, self._slot(held), place.outcomes)
            self._ended(work, event)
            if event:
                held.ctx.checkpoints.ended()
        except JobSuspended as reason:
            await self._returns.give_back([work], State.PAUSED if isinstance(reason, JobPaused) else State.QUEUED)
        except ServerUnreachable as error:
            # An outage is nobody's attempt: jobs that end while it lasts would all be poison after three of them.
            log.warning("job %s: attempt %d goes on later: %s", work.job.id, work.job.attempt, error)
            await self._returns.put_off(work)
        except WorkerBroken as error:
            self._break(error)
            await self._returns.give_back([work], State.QUEUED)
        except Exception:  # a bug in one job must not take the others along
            # The lease is held but renewed no more: it runs out, and the reaper counts the attempt.
            log.exception("job %s: attempt %d crashed", work.job.id, work.job.attempt)
            self._returns.leave(work.lease)
            self._metrics.jobs.labels(work.job.kind, "crashed").inc()
            await self._check_device()

    async def _check_device(self) -> None:
        # A worker whose device is out of order would end the next job as soon as it comes, and the one after it: with
        # slots that are always free, it would draw all jobs of the models that it holds.
        try:
            await self._workplace.tools.models.check_device()
        except WorkerBroken as error:
            self._break(error)

    def _break(self, reason: WorkerBroken) -> None:
        if not self.broken.done():
            self.broken.set_result(reason)

    def _done(self, task: asyncio.Task[None]) -> None:
        # Here and not in the task, of which a cancellation may leave nothing to run.
        held = self._jobs.pop(task)
        if held.deadline:
            held.deadline.cancel()
        self._leases.drop(held.work.lease)
        self._uncount(held)

    @asynccontextmanager
    async def _slot(self, held: Held) -> AsyncIterator[None]:
        kind, clock = held.work.job.kind, asyncio.get_running_loop().time
        try:
            async with self._turns[kind].slot(held.work.job):
                held.begun = True
                begun_s = clock()
                yield
                self._places.ahead.ended(kind, clock() - begun_s)
        finally:
            self._uncount(held)

    def _uncount(self, held: Held) -> None:
        if held.counted:
            held.counted = False
            self._places.leave(held.work.job)
            self._tell_if_short(held.work.job.kind)

    def _tell_if_short(self, kind: Kind) -> None:
        if self._places.is_short(kind):
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


def _first_event(work: WorkEvent) -> int:
    return times_returned(work) * EVENTS_PER_LEASE
