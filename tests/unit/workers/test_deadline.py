"""When a worker ends a job that is late."""

import asyncio
import re
from datetime import timedelta

import pytest

from schemas.errors import JobExpired
from tests.unit.workers.fakes import SCHEDULED_AT, context, job, work
from workers.context import JobContext, Stop
from workers.deadline import watch_deadline


class Watched(JobContext):
    """Tells when it is stopped."""

    stopped: asyncio.Event

    def stop(self, reason: Stop) -> None:
        """As its class, and tell."""
        super().stop(reason)
        self.stopped.set()


def test_a_job_that_came_after_its_deadline_is_stopped_before_it_begins() -> None:
    late = job(deadline=SCHEDULED_AT)
    ctx = context(late)
    assert watch_deadline(work(late), ctx) is None
    with pytest.raises(JobExpired, match=re.escape(SCHEDULED_AT.isoformat())):
        ctx.check()


def test_a_job_has_the_time_that_it_had_left_when_it_was_leased_whatever_the_workers_clock_says() -> None:
    # The lease is of last year, by the clock of this machine.
    due = job(deadline=SCHEDULED_AT + timedelta(seconds=0.05))
    ctx = context(due)
    ctx.__class__ = Watched

    async def run() -> None:
        assert isinstance(ctx, Watched)
        ctx.stopped = asyncio.Event()
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        watch_deadline(work(due), ctx)
        ctx.check()
        await ctx.stopped.wait()
        assert loop.time() - began_s >= 0.05

    asyncio.run(run())
    with pytest.raises(JobExpired):
        ctx.check()


def test_a_job_without_a_deadline_is_left_alone() -> None:
    ctx = context(job())
    assert watch_deadline(work(job()), ctx) is None
    ctx.check()
