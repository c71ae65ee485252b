"""A job's deadline by Postgres' clock: the wall clock of a worker may be wrong by an hour."""

import asyncio

from schemas.errors import JobExpired
from schemas.events import WorkEvent
from workers.context import JobContext


def watch_deadline(work: WorkEvent, ctx: JobContext) -> asyncio.TimerHandle | None:
    """Stop the job once its deadline has passed: at once, if it has passed already.

    The lease says what time it was for Postgres when it was given, so what is left since then needs no clock but the
    monotonic one. The event's way to the worker is not counted: a job may go on for as much longer.
    """
    deadline = work.job.request.deadline
    if deadline is None:
        return None
    expired = JobExpired(f"The deadline {deadline.isoformat()} passed before the job had ended.")
    left_s = (deadline - work.scheduled_at).total_seconds()
    if left_s > 0:
        return asyncio.get_running_loop().call_later(left_s, ctx.stop, expired)
    ctx.stop(expired)
    return None
