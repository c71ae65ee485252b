"""Planted bugs: each a process that a test starts in place of ours. The platform's own code has no switch for them.

Most are statements with a part missing, exchanged on their way to the driver; a bug must break the named
promise under the named faults, or the harness proves nothing.
"""

import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, assert_never

from sqlalchemy import Engine, event

from runtime.kafka import Publisher
from runtime.settings import Settings
from schemas import topics
from schemas.events import ControlEvent, Lease
from schemas.limits import ATTEMPTS
from schemas.requests import GenerateRequest
from schemas.results import GenerateResult, ResultEvent, Terminal
from tests.acceptance.faults.promises import Broken
from tests.acceptance.faults.schedule import Fault, Schedule, Strike
from workers.context import JobContext
from workers.job import Handlers
from workers.leases import Leases

Generate = Callable[[GenerateRequest, JobContext], Awaitable[GenerateResult]]

#: What guards every write of a lease.
FENCE: Final = " AND jobs.epoch = item.epoch"
READS_OUTBOX: Final = re.compile(r"SELECT\b.*\bFROM outbox\b", re.DOTALL)


class Bug(StrEnum):
    """What is wrong."""

    #: Whoever has a job's id may renew its lease and write its end.
    NO_FENCE = "no fence"
    #: The reaper compares leases with its own clock.
    LOCAL_CLOCK = "lease by local clock"
    #: Ids are known without their tenants.
    NO_TENANT = "deduplication without tenant"
    #: The relay drops what it has read, before it is published.
    EARLY_DELETE = "outbox emptied first"
    #: Workers publish results before they are stored.
    EARLY_PUBLISH = "published before stored"
    #: The reaper does not count attempts.
    NO_COUNT = "attempts not counted"
    #: The reaper takes the first lost attempt for the last.
    GIVES_UP = "poison after one attempt"
    #: Workers give a job the result of the one before.
    MIXED = "another job's result"
    #: Workers don't hear what clients want of the jobs that they run.
    DEAF = "cancel not heeded"


@dataclass(frozen=True)
class Trial:
    """The faults that bring a bug to light, and the promise that it breaks."""

    bug: Bug
    schedule: Schedule
    breaks: Broken


def _trial(bug: Bug, breaks: Broken, *strikes: Strike) -> Trial:
    return Trial(bug, Schedule(0, strikes, max((strike.end_s for strike in strikes), default=5) + 2), breaks)


TRIALS: Final = (
    # Thawed while the second attempts of their jobs run.
    _trial(
        Bug.NO_FENCE,
        Broken.STALE,
        Strike(3, Fault.FREEZE, "worker-1", 8),
        Strike(14, Fault.FREEZE, "worker-2", 8.5),
        Strike(25, Fault.FREEZE, "worker-3", 9),
    ),
    # Long enough for several visits of the reaper, also where Postgres answers slowly.
    _trial(Bug.LOCAL_CLOCK, Broken.REEXECUTED, Strike(2, Fault.CLOCK_AHEAD, "dispatcher-2", 12)),
    _trial(Bug.NO_TENANT, Broken.LOST),
    _trial(Bug.EARLY_DELETE, Broken.UNSEEN, Strike(2, Fault.TWO_BROKERS, "kafka-1+kafka-2", 5)),
    _trial(Bug.EARLY_PUBLISH, Broken.DUPLICATE, Strike(2, Fault.AFTER_COMPUTE, "worker-1", 3)),
    _trial(Bug.NO_COUNT, Broken.LOST, Strike(1, Fault.POISON, "load", 1)),
    _trial(Bug.GIVES_UP, Broken.UNJUST, Strike(2, Fault.KILL, "worker-1", 1)),
    _trial(Bug.MIXED, Broken.CONFLICTING),
    Trial(Bug.DEAF, Schedule(0, (), 25), Broken.UNHEEDED),
)


def plant(file: Path) -> None:
    """Make this process faulty in the way that the file names; nothing where there is no file."""
    bug = planted(file)
    if bug is None:
        return

    def rewrite(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_rest: Any) -> tuple[str, Any]:
        return rewritten(bug, statement), parameters

    event.listen(Engine, "before_cursor_execute", rewrite, retval=True)
    if bug is Bug.DEAF:
        type.__setattr__(Leases, "stop", _hear_nothing)
    if bug is Bug.EARLY_DELETE:
        event.listen(Engine, "after_cursor_execute", _empty_outbox)


def planted(file: Path) -> Bug | None:
    """The bug that the file names."""
    return Bug(file.read_text()) if file.exists() else None


def rewritten(bug: Bug, statement: str) -> str:
    """A statement as this bug has it."""
    match bug:
        case Bug.NO_FENCE if FENCE in statement:
            # A worker is not told either that its lease is another's, or nobody's.
            open_fence = statement.replace(FENCE, "").replace("jobs.id, jobs.epoch", "jobs.id, item.epoch")
            return open_fence.replace("('scheduled', 'running')", "('scheduled', 'running', 'queued')")
        case Bug.LOCAL_CLOCK:
            return statement.replace("lease_expires_at < now()", f"lease_expires_at < to_timestamp({time.time()})")
        case Bug.NO_TENANT if "INSERT INTO jobs" in statement:
            unknown_id = "WHERE NOT EXISTS (SELECT FROM jobs AS other WHERE other.id = item.id) ORDER BY number"
            return statement.replace("ORDER BY number", unknown_id)
        case Bug.NO_TENANT if "jobs.source_offset" in statement:
            alike = statement.replace("JOIN jobs USING (tenant, id)", "JOIN jobs ON jobs.id = item.id")
            return alike.replace("SELECT jobs.tenant, jobs.id", "SELECT item.tenant, item.id")
        case Bug.NO_COUNT:
            return re.sub(r"(lost_attempts|jobs\.attempt) \+ 1", r"\1", statement)
        case Bug.GIVES_UP:
            return statement.replace("lost_attempts + 1 END AS lost", f"{ATTEMPTS} END AS lost")
        case Bug.NO_FENCE | Bug.NO_TENANT | Bug.EARLY_DELETE | Bug.EARLY_PUBLISH | Bug.MIXED | Bug.DEAF:
            return statement
        case unknown:
            assert_never(unknown)


def faulty(bug: Bug | None, handlers: Handlers, settings: Settings) -> Handlers:
    """A worker's handlers as this bug has them."""
    if bug is Bug.EARLY_PUBLISH:
        return replace(handlers, generate=_publishing(handlers.generate, Publisher(settings.kafka, "zoo")))
    if bug is Bug.MIXED:
        return replace(handlers, generate=_mixing(handlers.generate))
    return handlers


def _publishing(generate: Generate, publisher: Publisher) -> Generate:
    async def published(request: GenerateRequest, ctx: JobContext) -> GenerateResult:
        result = await generate(request, ctx)
        _publish(publisher, ctx, result)
        return result

    return published


def _mixing(generate: Generate) -> Generate:
    made: list[GenerateResult] = []

    async def mixed(request: GenerateRequest, ctx: JobContext) -> GenerateResult:
        made.append(await generate(request, ctx))
        return made[-2:][0]

    return mixed


def _publish(publisher: Publisher, ctx: JobContext, result: GenerateResult) -> None:
    job = ctx.job
    ended = ResultEvent(
        job_id=job.id, tenant=job.tenant, kind=job.kind, status=Terminal.SUCCEEDED, attempt=job.attempt,
        finished_at=datetime.now(UTC), result=result,
    )  # fmt: skip
    event_id = f"{job.tenant}/{job.id}/result"
    publisher.publish(topics.RESULTS, ended, key=job.id, event_id=event_id, traceparent=job.traceparent)
    publisher.flush(1.0)


def _hear_nothing(_leases: Leases, _lease: Lease, _wish: ControlEvent) -> None:
    """What a deaf worker makes of a wish."""


def _empty_outbox(connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
    if READS_OUTBOX.search(statement):
        with connection.connection.cursor() as another:
            another.execute("DELETE FROM outbox")
