"""The jobs of one kind that wait in memory: by level of priority, fairly within each, with those on hold aside."""

from collections import Counter
from itertools import islice
from typing import Final

from runtime.database.jobs import QueuedJob
from streams.levels import Flow, Level
from streams.parking import Parking
from streams.waiting import Waiting

#: high, normal, batch
LEVELS: Final = 3
#: The tenant with the most jobs is looked for again after so many have given way to others.
SURE_JOBS: Final = 256


class Lane:
    """The waiting jobs of one kind, by (tenant, id)."""

    def __init__(self) -> None:
        self.levels = [Level(number) for number in range(LEVELS)]
        self.parking = Parking()
        self.jobs: dict[tuple[str, str], Waiting] = {}
        self.by_model: Counter[str] = Counter()
        self.by_tenant: Counter[str] = Counter()
        #: Whether the database has no more than what is here.
        self.complete = False
        #: Whether something was left to the database since its beginning was read.
        self.refused = False
        self._numbers = 0
        self._largest = ("", 0)

    def __len__(self) -> int:
        return len(self.jobs)

    @property
    def highest(self) -> int:
        """The number of the highest level that has jobs, or that of the lowest."""
        return next((level.number for level in self.levels if level.jobs), LEVELS - 1)

    def push(self, job: QueuedJob, at_s: float) -> None:
        """Let a job wait that does not yet."""
        self._numbers += 1
        item = Waiting(job, at_s - job.waited_s, self._numbers)
        self.jobs[job.tenant, job.id] = item
        self.by_model[job.model] += 1
        self.by_tenant[job.tenant] += 1
        self._place(item, item.due_level(at_s))

    def remove(self, item: Waiting) -> None:
        """Take a job out."""
        job = item.job
        self.levels[item.level].remove(item)
        del self.jobs[job.tenant, job.id]
        _less(self.by_model, job.model)
        _less(self.by_tenant, job.tenant)
        if job.model not in self.by_model:
            self.parking.forget(job.model)

    def promote(self, at_s: float) -> None:
        """Move the jobs up that have waited long enough."""
        for level in self.levels[1:]:
            while (item := level.aging.first()) and (due := item.due_level(at_s)) < level.number:
                level.remove(item)
                self._place(item, due)

    def next_flow(self) -> Flow | None:
        """The flow whose turn it is, of the highest level that has one."""
        return next((flow for level in self.levels if (flow := level.next_flow())), None)

    def take(self, flow: Flow) -> QueuedJob:
        """Take out the first job of a ready flow, at its cost."""
        item = flow.jobs.first()
        assert item is not None  # a flow without jobs takes no turns
        flow.level.charge(flow, item.job.cost)
        self.remove(item)
        self.parking.served(flow.model)
        # Whoever took this one may have room for another.
        self.parking.wake(flow.model, 1)
        return item.job

    def to_give_way(self) -> Waiting | None:
        """A late job of the tenant with the most jobs, or nearly so many: it would take longest anyway."""
        tenant, sure = self._largest
        if sure <= 0 or tenant not in self.by_tenant:
            tenant, sure = max(self.by_tenant, key=self.by_tenant.__getitem__, default=""), SURE_JOBS
        self._largest = (tenant, sure - 1)
        return next((item for level in reversed(self.levels) if (item := level.first_late(tenant))), None)

    def before(self, item: Waiting) -> int:
        """About how many jobs go before one that waits: those of higher levels, and as many turns of the others'
        as the tenant needs to come to it.
        """
        level = self.levels[item.level]
        tenant = level.tenants[item.job.tenant]
        flow = tenant.flows[item.job.model]
        of_flow = max(0, item.ordinal - (flow.pushed - len(flow.jobs)))
        of_tenant = min(tenant.jobs - 1, of_flow * len(tenant.flows))
        others = min(level.jobs - 1, of_tenant * len(level.tenants))
        return others + sum(higher.jobs for higher in self.levels[: item.level])

    def soonest(self, most: int) -> list[Waiting]:
        """Some jobs whose turn is near, about in their order."""
        return list(islice((item for level in self.levels for item in level.soonest(most)), most))

    def _place(self, item: Waiting, number: int) -> None:
        flow = self.levels[number].push(item)
        if not flow.parked and flow.model in self.parking:
            # The others of its model were there before.
            self.parking.park(flow)


def _less(counter: Counter[str], name: str) -> None:
    counter[name] -= 1
    if not counter[name]:
        del counter[name]
