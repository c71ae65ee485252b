"""Leases that ran out: the job is queued again after a delay, or fails as poison."""

import asyncio
import logging
import random
from datetime import UTC, datetime
from typing import Final

from runtime.database import outcomes
from runtime.database.outcomes import ExpiredLease
from runtime.database.thread import DatabaseThread
from runtime.kafka import Publisher
from runtime.settings import CODE_VERSION
from schemas.errors import PoisonJob
from schemas.events import State, StatusEvent
from schemas.limits import ATTEMPTS
from schemas.results import ErrorInfo, Lineage, ResultEvent, Terminal
from streams.announcements import publish_status
from streams.instruments import Instruments

log = logging.getLogger(__name__)

#: The delay after the first lost attempt; each is double the one before, give or take a half.
DELAY_S: Final = 1.0
BATCH_JOBS: Final = 500
#: Visits in the time of a lease, as often as workers renew theirs.
VISITS: Final = 3
#: An outage that is shorter costs no worker its lease.
AWAY_S: Final = 1.0


class Reaper:
    """Looks for dead leases; the processes of the group may all do so, for each lease is locked by one."""

    def __init__(self, database: DatabaseThread, publisher: Publisher, instruments: Instruments) -> None:
        self._database = database
        self._publisher = publisher
        self._instruments = instruments

    async def run(self, lease_s: float) -> None:
        """Reap a few times in the duration of a lease, until cancelled.

        While Postgres is away nobody can renew a lease, so whoever lives gets the time for it afterwards.
        """
        while True:
            if await self._was_away():
                log.warning("Postgres was away. Leases that ran out meanwhile have %g s to be renewed.", lease_s)
                await asyncio.sleep(lease_s)
            if await self.reap() < BATCH_JOBS:
                await asyncio.sleep(lease_s / VISITS)

    async def _was_away(self) -> bool:
        """Whether Postgres takes long to answer, or has to be asked more than once."""
        now_s = asyncio.get_running_loop().time
        asked_s = now_s()
        await self._database.insist(outcomes.reap, decide, 0)
        return now_s() - asked_s > AWAY_S

    async def reap(self) -> int:
        """End the leases that ran out; how many.

        1. One transaction locks them, queues jobs again or ends them, with result and outbox row. A
           worker that comes back finds another state or epoch, and writes nothing.
        2. The states of those that wait again are published. A crash loses them: the job's next state follows.
        """
        decided = await self._database.insist(outcomes.reap, decide, BATCH_JOBS)
        for item, decision in decided:
            log.warning(
                "Job %s/%s lost worker %s in attempt %d.",
                item.lease.tenant, item.lease.job_id, item.lease.worker_id, item.attempt,
            )  # fmt: skip
            if not isinstance(decision, ResultEvent):
                publish_status(self._publisher, _status(item), item.traceparent)
        poisoned = sum(isinstance(decision, ResultEvent) for _, decision in decided)
        self._instruments.requeued.inc(len(decided) - poisoned)
        self._instruments.poisoned.inc(poisoned)
        return len(decided)


def decide(item: ExpiredLease) -> ResultEvent | float:
    """The end of a job that had all its attempts; else the delay before the next, in seconds."""
    if item.lost < ATTEMPTS:
        # Jitter, so that the jobs of a machine that was lost do not all come at once.
        return DELAY_S * 2.0 ** (item.lost - 1) * random.uniform(0.5, 1.5)
    poison = PoisonJob(item.lost)
    return ResultEvent(
        job_id=item.lease.job_id,
        tenant=item.lease.tenant,
        kind=item.kind,
        status=Terminal.FAILED,
        attempt=item.attempt,
        finished_at=datetime.now(UTC),
        error=ErrorInfo(poison.code, str(poison), poison.retryable),
        lineage=Lineage(request=item.request_sha256, code=CODE_VERSION),
    )


def _status(item: ExpiredLease) -> StatusEvent:
    return StatusEvent(
        job_id=item.lease.job_id,
        tenant=item.lease.tenant,
        kind=item.kind,
        state=State.QUEUED,
        attempt=item.attempt + 1,
        at=datetime.now(UTC),
        reason=f"Worker {item.lease.worker_id} was lost in attempt {item.attempt}.",
    )
