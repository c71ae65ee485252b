"""What workers are told of their leases, without servers."""

import asyncio
from contextlib import closing
from typing import Any, cast

import pytest

from runtime.database import Database
from runtime.database.leased import LeasedJob
from runtime.database.thread import DatabaseThread
from runtime.kafka import Publisher
from runtime.monitoring import Metrics
from schemas.events import Lease, WorkEvent
from schemas.requests import GenerateRequest, Job
from streams.credits import Assignment
from streams.dispatch import Dispatch
from streams.instruments import Instruments
from tests.unit.streams.records import NOW, TRACE, job

LEASE_S = 8.0


class Told:
    """Keeps what is published."""

    def __init__(self) -> None:
        self.events: list[object] = []

    def publish(self, _topic: object, event: object, **_fields: Any) -> None:
        self.events.append(event)


@pytest.mark.parametrize(("took_s", "again"), [(0.0, False), (LEASE_S / 2, True)])
def test_a_worker_whose_lease_was_long_in_coming_is_told_that_it_may_know_of_it(took_s: float, again: bool) -> None:
    """Others tell it of the lease after half of its time: it may have run the job by now."""

    async def run() -> None:
        work = Told()
        with closing(DatabaseThread(cast(Database, None))) as thread:
            dispatch = Dispatch(
                thread, cast(Publisher, Told()), cast(Publisher, work), Instruments(Metrics("test")), LEASE_S
            )
            request = GenerateRequest(model="m", prompt="p")
            told = Job(
                id="a",
                tenant="default",
                request=request,
                attempt=1,
                submitted_at=NOW,
                queued_at=NOW,
                traceparent=TRACE,
                request_sha256="0" * 64,
            )
            leased = LeasedJob(told, Lease("default", "a", 1, "worker-1"), NOW)
            asked_s = asyncio.get_running_loop().time() - took_s
            dispatch.hand_out([Assignment(job("a"), "worker-1", 0, asked_s)], [leased], asked_s)
        (event,) = work.events
        assert isinstance(event, WorkEvent)
        assert event.again is again

    asyncio.run(run())
