"""Jobs that a worker gives back before they have ended: their leases end, and their attempt goes on elsewhere."""

import asyncio
import random
from collections import OrderedDict
from collections.abc import Collection
from typing import Final

from schemas.events import Lease, State, WorkEvent
from workers.context import Announcer
from workers.leases import Leases
from workers.metrics import WorkerMetrics

#: Leases that are remembered, for a dispatcher may tell of them again: more than are left in the time of a lease.
LEFT_JOBS: Final = 1_000
#: How long a job waits that met a server that was away, the first time and at most; give or take a half.
DELAY_S: Final = 1.0
LONGEST_DELAY_S: Final = 60.0
#: Beyond, floats end.
DOUBLINGS: Final = 100


class Returns:
    """Gives jobs back, and knows under which leases a job does not begin again."""

    def __init__(self, leases: Leases, announcer: Announcer, metrics: WorkerMetrics) -> None:
        self._leases = leases
        self._announcer = announcer
        self._metrics = metrics
        self._left: OrderedDict[Lease, None] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()

    def __contains__(self, lease: Lease) -> bool:
        return lease in self._left

    @property
    def tasks(self) -> Collection["asyncio.Task[None]"]:
        """Those that give jobs back at the moment."""
        return self._tasks

    def leave(self, lease: Lease) -> None:
        """Remember that a job does not begin again under this lease, whoever tells of it."""
        self._left[lease] = None
        if len(self._left) > LEFT_JOBS:
            self._left.popitem(last=False)

    def begin(self, jobs: Collection[WorkEvent]) -> None:
        """Give back jobs that have not begun, in a task of its own."""
        if jobs:
            task = asyncio.create_task(self.give_back(jobs, State.QUEUED), name="give back")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def put_off(self, work: WorkEvent) -> None:
        """Give back a job whose attempt met a server that is away; it waits longer each time."""
        delay_s = min(DELAY_S * 2.0 ** min(times_returned(work), DOUBLINGS), LONGEST_DELAY_S)
        # Jitter, so that those that an outage has ended together do not all come back together.
        await self.give_back([work], State.QUEUED, delay_s * random.uniform(0.5, 1.5))

    async def give_back(self, jobs: Collection[WorkEvent], state: State, delay_s: float = 0.0) -> None:
        """End the leases of attempts that have ended without an outcome; lost ones are another's."""
        for work in jobs:
            self.leave(work.lease)
        returned = await self._leases.give_back([work.lease for work in jobs], state, delay_s)
        for work in jobs:
            if work.lease in returned:
                self._announcer.status(work.job, state)
            self._metrics.jobs.labels(work.job.kind, "returned" if work.lease in returned else "lost").inc()


def times_returned(work: WorkEvent) -> int:
    """How often the attempt was given back before: each lease is an epoch, and each lost one an attempt."""
    return work.lease.epoch - work.job.attempt
