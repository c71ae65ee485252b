"""Which job goes to which worker next: a pure data structure, without clock, network or database.

Times are arguments, in seconds of one clock. Postgres has the queue; this holds its jobs up to a bound:

- a lane for each kind (``lanes``), which holds up no other when it or its workers are full;
- in a lane three levels, for high, normal and batch, where jobs move up as they wait (``waiting``);
- in a level turns of tenants, and in a tenant turns of models, by cost (``levels``, ``fairness``);
- jobs that come while there is room need not wait at all (``newcomers``);
- for the job whose turn it is a worker by the models that the workers hold (``placement``). Where none is
  right yet, the job's model is put aside for a while (``parking``) and others go before it;
- for a last attempt a worker of its own (``lone``);
- and the workers themselves, with what they were sent (``fleet``).

A decision takes O(log jobs + workers); there are 64 workers at most.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from itertools import islice
from operator import attrgetter
from typing import Final

from runtime.database.jobs import QueuedJob
from schemas.events import Heartbeat
from schemas.limits import ATTEMPTS
from schemas.topics import Kind
from streams.credits import Assignment, Worker
from streams.estimates import LoadTimes, RunTimes
from streams.fleet import Fleet
from streams.lanes import Lane
from streams.lone import Lone, idle_worker
from streams.newcomers import newcomers
from streams.outlooks import Outlook, outlook
from streams.placement import Demand, Hold, Offers, Placement
from streams.waiting import Waiting

__all__ = ["Assignment", "Scheduler"]

#: Jobs that are held in memory, at about 1 KB each; the others stay in the database alone.
QUEUE_JOBS: Final = 100_000
#: A model that was not loaded in so many times its usual time is not coming.
LATE_LOADS: Final = 4.0


class Scheduler:
    """Jobs that wait, and workers with their free slots."""

    def __init__(self, queue_jobs: int = QUEUE_JOBS) -> None:
        self._most = queue_jobs
        self._lanes = {kind: Lane() for kind in Kind}
        self._lone = Lone()
        self._fleet = Fleet()
        self._runs = RunTimes()
        self._loads = LoadTimes()
        self._placement = Placement(self._fleet.by_id, self._runs, self._loads)
        # Memory is filled from the database until something finds no room.
        self._filling = True

    def __len__(self) -> int:
        return len(self._lone.jobs) + sum(len(lane) for lane in self._lanes.values())

    # Jobs

    def add(self, jobs: Iterable[QueuedJob], at_s: float) -> None:
        """Let jobs wait; one that waits already is not added again.

        Where there is no room, the tenant with the most jobs has to give way (longest queue drop: Suter et al.,
        1998) with one of its last: it is still in the database.
        """
        for job in jobs:
            lane, key = self._lanes[job.kind], (job.tenant, job.id)
            if key in lane.jobs or key in self._lone.jobs:
                continue
            if job.lost_attempts >= ATTEMPTS - 1:
                self._lone.push(job, at_s)
            elif len(self) < self._most or self._make_room(job):
                lane.push(job, at_s)
            else:
                lane.refused = True
                self._filling = False

    def refill(self, kind: Kind, jobs: Iterable[QueuedJob], at_s: float, *, complete: bool) -> None:
        """Add jobs of a kind that the database has; ``complete``: it was read to its end."""
        lane = self._lanes[kind]
        self.add(jobs, at_s)
        lane.complete = lane.complete or complete
        if complete and lane.refused:
            # It is read once more from its beginning, when there is room.
            lane.complete = lane.refused = False

    def wants_more(self, kind: Kind) -> bool:
        """Whether the database may have more, and there is room: once it is full, not before half of it is left."""
        self._filling = self._filling or len(self) <= self._most // 2
        return self._filling and not self._lanes[kind].complete

    def remove(self, tenant: str, job_id: str) -> bool:
        """Let a job wait no more; False where it did not."""
        if lone := self._lone.jobs.get((tenant, job_id)):
            self._lone.remove(lone)
            return True
        for lane in self._lanes.values():
            if item := lane.jobs.get((tenant, job_id)):
                lane.remove(item)
                return True
        return False

    def waiting(self, kind: Kind) -> int:
        """The jobs of a kind that wait here."""
        return len(self._lanes[kind]) + sum(item.job.kind is kind for item in self._lone.jobs.values())

    # Workers

    def heartbeat(self, beat: Heartbeat, at_s: float) -> bool:
        """Take a worker's sign of life, received at ``at_s``; False for one that is older than another."""
        if beat.leaving:
            return bool(self._forget([beat.worker_id]))
        news = self._fleet.heartbeat(beat, at_s)
        if news is None:
            return False
        if news.new:
            self._workers_changed()
        for step in news.progress:
            self._runs.observe(step.kind, step.busy_s, step.ended, at_s)
        for model, load_s in news.loaded:
            self._loads.observe(model, load_s)
        for model in news.dropped:
            # Whoever waited for this worker to have it looks for another.
            for lane in self._lanes.values():
                lane.parking.wake_model(model)
        return True

    def remove_silent(self, before_s: float) -> list[str]:
        """Forget the workers that were not heard of since ``before_s``; their ids."""
        return self._forget(self._fleet.silent(before_s))

    def release_lost(self, before_s: float) -> None:
        """Free the slots of what was assigned before ``before_s`` and never taken: its lease has run out."""
        self._fleet.release_lost(before_s)

    def sent(self, assignment: Assignment, offset: int) -> None:
        """Note where the assignment's event lies; the worker's position then tells when it was taken."""
        self._fleet.sent(assignment, offset)

    def release(self, assignment: Assignment) -> None:
        """Give the slot back: the job was not leased, or its event not delivered."""
        self._fleet.release(assignment)

    def free(self, kind: Kind) -> int:
        """The jobs of a kind that the workers could take now."""
        return self._fleet.free(kind)

    @property
    def workers(self) -> int:
        """How many workers there are."""
        return len(self._fleet)

    # Decisions

    def next_assignments(self, most: int, at_s: float) -> list[Assignment]:
        """Take out the next jobs that have a worker, at most ``most``; each kind in turn, then last attempts."""
        self._lone.reserve(self._fleet.workers, self._runs, at_s)
        self._wake(at_s)
        given: list[Assignment] = []
        streams = [
            self._of_lane(lane, Offers(kind, self._fleet.workers), at_s)
            for kind, lane in self._lanes.items()
            if len(lane)
        ]
        while streams and len(given) < most:
            for stream in list(streams):
                assignment = next(stream, None) if len(given) < most else None
                if assignment:
                    given.append(assignment)
                elif len(given) < most:
                    streams.remove(stream)
        return [*given, *islice(self._alone(at_s), most - len(given))]

    def place(self, kind: Kind, jobs: Iterable[QueuedJob], at_s: float) -> list[Assignment]:
        """Workers for jobs that have just come and are not stored yet, so that their leases are stored with them.

        Who may is in ``newcomers``. Those that are given no worker are not kept: they are added once they are stored.
        """
        lane = self._lanes[kind]
        if not lane.complete or self.free(kind) <= 0:
            # What the database has besides would go before them, or all have to wait.
            return []
        held = self._fleet.held() if len(lane.parking) else None
        going = newcomers(jobs, lane, self.free(kind) - len(lane), held)
        offers = Offers(kind, self._fleet.workers, newcomers=True)
        if len(going) <= self.free(kind):
            return list(self._all_of(going, offers, at_s))
        turns = Lane()
        for job in going:
            turns.push(job, at_s)
        return list(self._of_lane(turns, offers, at_s))

    # Forecasts

    def outlook(self, tenant: str, job_id: str) -> Outlook | None:
        """When the turn of a waiting job comes; None for one that does not wait here."""
        for kind, lane in self._lanes.items():
            if item := lane.jobs.get((tenant, job_id)):
                return self._outlook(kind, item, lane.before(item))
        return None

    def outlooks(self, most: int) -> list[Outlook]:
        """Those of the first ``most`` jobs of each kind, about in their order."""
        return [
            self._outlook(kind, item, position)
            for kind, lane in self._lanes.items()
            for position, item in enumerate(lane.soonest(most))
        ]

    def _outlook(self, kind: Kind, item: Waiting, position: int) -> Outlook:
        free, slots = self._fleet.free(kind), self._fleet.slots(kind)
        return outlook(item.job, position, free=free, slots=slots, run_s=self._runs.run_s(kind))

    def _of_lane(self, lane: Lane, offers: Offers, at_s: float) -> Iterator[Assignment]:
        while offers.able and (flow := lane.next_flow()):
            model, parking = flow.model, lane.parking
            demand = Demand(model, lane.by_model[model], parking.waited_s(model, at_s), parking.cold)
            choice = self._placement.choose(offers, demand)
            if isinstance(choice, Hold):
                parking.hold(model, at_s, choice.limit_s, cold=choice.cold)
                parking.park(flow)
            else:
                assignment = self._assign(choice, lane.take(flow), at_s)
                offers.took(choice)
                yield assignment

    def _all_of(self, jobs: Collection[QueuedJob], offers: Offers, at_s: float) -> Iterator[Assignment]:
        """Assign jobs that all have a slot, so that they need no turns."""
        models, held = Counter(job.model for job in jobs), set[str]()
        for job in sorted(jobs, key=attrgetter("priority")):
            if job.model in held:
                continue
            choice = self._placement.choose(offers, Demand(job.model, models[job.model], 0.0, 0))
            if isinstance(choice, Hold):
                held.add(job.model)
            else:
                assignment = self._assign(choice, job, at_s)
                offers.took(choice)
                yield assignment

    def _alone(self, at_s: float) -> Iterator[Assignment]:
        for kind in Kind:
            while (job := self._lone.first(kind)) and (worker := idle_worker(self._fleet.workers, job)):
                worker.reserved = False
                worker.alone = self._assign(worker, self._lone.take(kind, at_s), at_s)
                yield worker.alone

    def _assign(self, worker: Worker, job: QueuedJob, at_s: float) -> Assignment:
        return worker.assign(job, at_s, LATE_LOADS * self._loads.load_s(job.model))

    def _wake(self, at_s: float) -> None:
        """Move jobs up that have waited long enough, and look again at those for which something changed."""
        changed = self._fleet.take_changed()
        for kind, lane in self._lanes.items():
            lane.promote(at_s)
            if not len(lane.parking):
                continue
            for worker in changed:
                if (free := worker.free(kind)) <= 0:
                    continue
                for model in worker.held():
                    lane.parking.wake(model, free)
                if not worker.is_loading:
                    lane.parking.wake_cold()
            if self.free(kind):
                lane.parking.wake_due(at_s)

    def _make_room(self, job: QueuedJob) -> bool:
        """Have another job give way to this one, unless this one's tenant would be the next to do so."""
        lane = max(self._lanes.values(), key=len)
        item = lane.to_give_way()
        if item is None:
            return False
        if item.job.tenant == job.tenant and item.job.kind is job.kind:
            room = job.priority < item.job.priority
        else:
            room = self._lanes[job.kind].by_tenant[job.tenant] + 1 < lane.by_tenant[item.job.tenant]
        if room:
            lane.remove(item)
            lane.refused = True
        return room

    def _forget(self, worker_ids: Iterable[str]) -> list[str]:
        gone = self._fleet.forget(worker_ids)
        if gone:
            self._workers_changed()
        return gone

    def _workers_changed(self) -> None:
        self._placement.workers_changed()
        for lane in self._lanes.values():
            lane.parking.wake_all()
