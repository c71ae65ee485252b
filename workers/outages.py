"""Servers that are away and disks that are full while a job needs them: it waits for them, and keeps its lease.

That is nobody's fault but the infrastructure's, so it neither ends a job nor counts as an attempt at it.
"""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from runtime.artifacts import ArtifactUnreachable
from runtime.io_errors import may_pass
from schemas.errors import ServerUnreachable
from workers.context import JobContext

if TYPE_CHECKING:  # as in ``context``
    from workers.models import LoadedModel

Answer = TypeVar("Answer")

log = logging.getLogger(__name__)

#: The first wait after a failed call, and the longest; each wait is double the one before.
BACKOFF_S: Final = 0.2
BACKOFF_LIMIT_S: Final = 10.0
#: How soon a job that waits sees that it shall not go on: well within the time that a leaving worker has.
LOOK_S: Final = 0.2
#: So long a job waits for a disk of this machine; then another worker may have a sound one.
DISK_S: Final = 60.0


async def insist(
    ctx: JobContext, call: Callable[[], Awaitable[Answer]], check: Callable[[], None] | None = None
) -> Answer:
    """Await ``call``, which has to bear being repeated, until no server is away for it and no disk in trouble.

    ``check`` says whether to wait on; without one it is the context's.

    Raises:
        ServerUnreachable: a disk is in trouble for longer than ``DISK_S`` (retryable).
        JobStopped, JobSuspended, LeaseLost: seen while it waits.
    """
    now_s = asyncio.get_running_loop().time
    begun_s, backoff_s = now_s(), BACKOFF_S
    while True:
        try:
            return await call()
        except (ServerUnreachable, OSError) as error:
            if isinstance(error, OSError):
                if not may_pass(error):
                    raise
                if now_s() - begun_s > DISK_S:
                    raise ServerUnreachable("The disk", "this worker", str(error)) from error
            log.warning("job %s waits: %s Trying again in %.1f s.", ctx.job.id, error, backoff_s)
        # Jitter, so that the jobs do not all come back at once.
        await _wait(backoff_s * random.uniform(0.5, 1.0), check or ctx.check)
        backoff_s = min(2 * backoff_s, BACKOFF_LIMIT_S)


@asynccontextmanager
async def borrow(ctx: JobContext, model: str, adapter: str | None = None) -> AsyncIterator["LoadedModel"]:
    """Lend a model to the job until the block ends. While Postgres can't say where it is, the job waits.

    Raises:
        ModelNotFound, ModelRejected, AdapterMismatch, ModelUnavailable, OutOfMemory: as ``Models.borrow``.
        ServerUnreachable: the store can't give the model now. The job has not begun, so it is better put off than
            kept waiting in a slot (retryable).
        JobStopped, JobSuspended, LeaseLost: seen while it waits.
    """
    async with AsyncExitStack() as stack:
        borrowing = partial(ctx.models.borrow, ctx.job.tenant, model, adapter, ctx.meter)
        try:
            lent = await insist(ctx, lambda: stack.enter_async_context(borrowing()))
        except ArtifactUnreachable as error:
            raise error.server() from error
        yield lent


async def _wait(for_s: float, check: Callable[[], None]) -> None:
    now_s = asyncio.get_running_loop().time
    end_s = now_s() + for_s
    check()
    while (left_s := end_s - now_s()) > 0:
        await asyncio.sleep(min(left_s, LOOK_S))
        check()
