"""How a worker's jobs hear what their clients want."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypeVar, TypeVarTuple, cast

import pytest
from msgspec.structs import replace
from sqlalchemy import Connection

from runtime.database import Database
from runtime.database.thread import DatabaseThread
from schemas.errors import JobCancelled, JobPaused, LeaseLost
from schemas.events import ControlEvent, Lease, WorkEvent
from tests.unit.workers.fakes import context, job
from workers.context import JobContext
from workers.leases import EARLY_WISHES, Leases

Answer = TypeVar("Answer")
Arguments = TypeVarTuple("Arguments")
LEASE = Lease("default", "job-1", 1, "worker-1")


class FakeDatabase(DatabaseThread):
    """Answers each renewal with the same wishes, while ``answers`` is set; it connects to nothing."""

    def __init__(self, held: dict[Lease, ControlEvent | None] | None = None) -> None:
        super().__init__(Database("postgresql+psycopg2://nobody@127.0.0.1:1/none"))
        self._held = held
        self.asked: list[tuple[Any, ...]] = []
        self.answers = asyncio.Event()
        self.answers.set()

    async def insist(self, work: Callable[[Connection, *Arguments], Answer], *arguments: *Arguments) -> Answer:  # noqa: ARG002
        """The answer."""
        self.asked.append(arguments)
        await self.answers.wait()
        return cast(Answer, self._held)


def wish(action: Literal["cancel", "retry", "pause", "resume"], *, keep_partial: bool = False) -> ControlEvent:
    return ControlEvent(action=action, job_id="job-1", reason="asked", keep_partial=keep_partial)


def leases(held: dict[Lease, ControlEvent | None] | None = None) -> Leases:
    return Leases(FakeDatabase(), FakeDatabase(held), "worker-1", "test", 3.0)


def stopped_by(ctx: JobContext) -> Exception | None:
    try:
        ctx.check()
    except (JobCancelled, JobPaused, LeaseLost) as reason:
        return reason
    return None


def test_a_wish_stops_the_job_at_its_next_check() -> None:
    ours, ctx = leases(), context(job())
    ours.add(LEASE, ctx)
    assert stopped_by(ctx) is None
    ours.stop(LEASE, wish("cancel", keep_partial=True))
    reason = stopped_by(ctx)
    assert isinstance(reason, JobCancelled)
    assert (str(reason), reason.keep_partial) == ("Its client cancelled the job: asked.", True)


def test_a_wish_that_comes_before_its_job_waits_for_it() -> None:
    ours, ctx, other = leases(), context(job()), context(job())
    ours.stop(LEASE, wish("pause"))
    ours.add(Lease("default", "job-1", 2, "worker-1"), other)
    ours.add(LEASE, ctx)
    assert stopped_by(other) is None
    assert isinstance(stopped_by(ctx), JobPaused)


def test_wishes_for_jobs_that_never_come_take_a_bounded_room() -> None:
    ours, ctx = leases(), context(job())
    for epoch in range(1, EARLY_WISHES + 2):
        ours.stop(Lease("default", "job-1", epoch, "worker-1"), wish("cancel"))
    ours.add(LEASE, ctx)
    assert stopped_by(ctx) is None


@pytest.mark.parametrize(
    ("actions", "reason"),
    [
        (["cancel", "cancel"], JobCancelled),
        (["pause", "cancel"], JobCancelled),
        (["cancel", "pause"], JobCancelled),
        (["pause", "resume"], JobPaused),
        (["resume"], None),
    ],
)
def test_a_cancel_outweighs_a_pause(
    actions: Sequence[Literal["cancel", "pause", "resume"]], reason: type[Exception] | None
) -> None:
    ours, ctx = leases(), context(job())
    ours.add(LEASE, ctx)
    for action in actions:
        ours.stop(LEASE, wish(action))
    assert type(stopped_by(ctx)) is (reason or type(None))


def test_a_renewal_brings_a_wish_that_was_not_told() -> None:
    ours, ctx = leases({LEASE: wish("pause")}), context(job())
    ours.add(LEASE, ctx)
    asyncio.run(ours.renew())
    assert isinstance(stopped_by(ctx), JobPaused)


def test_a_lost_lease_outweighs_every_wish() -> None:
    ours, ctx = leases({}), context(job())
    ours.add(LEASE, ctx)
    ours.stop(LEASE, wish("cancel"))
    asyncio.run(ours.renew())
    assert isinstance(stopped_by(ctx), LeaseLost)


def work(age_s: float) -> WorkEvent:
    """A job that was leased so long ago."""
    return WorkEvent(job=job(), lease=LEASE, scheduled_at=datetime.now(UTC) - timedelta(seconds=age_s))


@pytest.mark.parametrize("age_s", [2.0, 3_600.0, -3_600.0])
def test_a_job_that_was_long_on_its_way_does_not_begin_if_its_lease_is_lost(age_s: float) -> None:
    ours, ctx = leases({}), context(job())
    ours.add(LEASE, ctx)
    asyncio.run(ours.confirm(work(age_s), ctx))
    assert isinstance(stopped_by(ctx), LeaseLost)
    assert LEASE not in ours


def test_a_job_that_was_long_on_its_way_begins_if_its_lease_is_held() -> None:
    ours, ctx = leases({LEASE: None}), context(job())
    ours.add(LEASE, ctx)
    asyncio.run(ours.confirm(work(age_s=3_600.0), ctx))
    assert stopped_by(ctx) is None


def test_a_job_that_comes_at_once_begins_without_a_question() -> None:
    ours, ctx = leases({}), context(job())
    ours.add(LEASE, ctx)
    asyncio.run(ours.confirm(work(age_s=0.0), ctx))
    assert stopped_by(ctx) is None


def test_a_job_that_is_told_again_does_not_begin_unless_its_lease_is_held() -> None:
    ours, ctx = leases({}), context(job())
    ours.add(LEASE, ctx)
    asyncio.run(ours.confirm(replace(work(age_s=0.0), again=True), ctx))
    assert isinstance(stopped_by(ctx), LeaseLost)


def test_a_job_whose_lease_is_given_back_while_it_is_asked_for_does_not_begin() -> None:
    ours, ctx = leases({LEASE: None}), context(job())
    ours.add(LEASE, ctx)
    ours.drop(LEASE)
    asyncio.run(ours.confirm(work(age_s=3_600.0), ctx))
    assert isinstance(stopped_by(ctx), LeaseLost)


def test_a_renewal_leaves_out_the_jobs_whose_end_is_being_written() -> None:
    other = Lease("default", "job-2", 1, "worker-1")

    async def run() -> None:
        renewals = FakeDatabase({other: None})
        ours, ctx = Leases(FakeDatabase(), renewals, "worker-1", "test", 3.0), context(job())
        ours.add(LEASE, ctx)
        ours.add(other, context(job()))
        async with ours.ending([LEASE]):
            await ours.renew()
        assert renewals.asked[0][2] == [other]
        assert stopped_by(ctx) is None  # though the answer did not have it
        await ours.renew()
        assert renewals.asked[1][2] == [LEASE, other]

    asyncio.run(run())


def test_the_end_of_a_job_is_written_after_a_renewal_that_has_begun() -> None:
    async def run() -> None:
        renewals = FakeDatabase({LEASE: None})
        ours, order = Leases(FakeDatabase(), renewals, "worker-1", "test", 3.0), list[str]()
        ours.add(LEASE, context(job()))
        renewals.answers.clear()

        async def renew() -> None:
            await ours.renew()
            order.append("renewed")

        async def end() -> None:
            async with ours.ending([LEASE]):
                order.append("ended")

        async with asyncio.TaskGroup() as group:
            group.create_task(renew())
            group.create_task(end())
            group.create_task(asyncio.sleep(0)).add_done_callback(lambda _: renewals.answers.set())
        assert order == ["renewed", "ended"]

    asyncio.run(run())
