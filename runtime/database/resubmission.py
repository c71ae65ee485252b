"""A job that has ended without a result, submitted again as a job of its own."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Final

import msgspec
from sqlalchemy import Connection, text

from runtime.database.admissions import Admission, Admitted, admit, request_digest
from runtime.database.wishes import Standing, Wish
from schemas.codec import decode
from schemas.limits import JOB_ID_CHARS
from schemas.requests import Request

#: Requests that are in memory at once, of up to a megabyte each: a wish is so small that a chunk has hundreds.
AT_ONCE: Final = 16

SELECT_REQUESTS: Final = text("""
    SELECT jobs.tenant, jobs.id, jobs.request::text AS request, jobs.cost
    FROM unnest(CAST(:tenants AS text[]), CAST(:ids AS text[])) AS item(tenant, id)
    JOIN jobs ON jobs.tenant = item.tenant AND jobs.id = item.id
    WHERE jobs.request IS NOT NULL
""")


def resubmit(
    connection: Connection, items: Sequence[tuple[Wish, Standing]], now: datetime
) -> list[tuple[Admission, Admitted] | None]:
    """Admit the requests of jobs anew, each under its wish's source and new id; what became of them, in their order.

    None is for a request that a later release wrote, and this one can't read. A wish that is read again finds its job
    there. A deadline that has passed is left out, for the job would end by it once more.
    """
    return [became for some in _batches(items) for became in _resubmit(connection, some, now)]


def _resubmit(
    connection: Connection, items: Sequence[tuple[Wish, Standing]], now: datetime
) -> Iterator[tuple[Admission, Admitted] | None]:
    jobs = [job for _, job in items]
    rows = connection.execute(
        SELECT_REQUESTS, {"tenants": [job.tenant for job in jobs], "ids": [job.id for job in jobs]}
    )
    found: dict[tuple[str, str], tuple[Request, int]] = {}
    for row in rows:
        with suppress(msgspec.DecodeError):
            found[row.tenant, row.id] = (decode(Request, row.request.encode()), row.cost)
    admissions = [
        _admission(wish, job, *found[job.tenant, job.id], now) if (job.tenant, job.id) in found else None
        for wish, job in items
    ]
    fates = iter(admit(connection, [admission for admission in admissions if admission]))
    for admission in admissions:
        yield (admission, next(fates)) if admission else None


def _batches(items: Sequence[tuple[Wish, Standing]]) -> Iterator[Sequence[tuple[Wish, Standing]]]:
    for first in range(0, len(items), AT_ONCE):
        yield items[first : first + AT_ONCE]


def new_id(wish: Wish) -> str:
    """The new job's id: the same each time the wish is read."""
    assert wish.source is not None
    ending = f".r{wish.source.offset}"
    return wish.event.new_id or wish.event.job_id[: JOB_ID_CHARS - len(ending)] + ending


def _admission(wish: Wish, job: Standing, request: Request, cost: int, now: datetime) -> Admission:
    assert wish.source is not None
    deadline = request.deadline if request.deadline and request.deadline > now else None
    renewed = msgspec.structs.replace(request, id=new_id(wish), tenant=job.tenant, deadline=deadline)
    return Admission(
        tenant=job.tenant,
        id=new_id(wish),
        kind=job.kind,
        request=renewed,
        request_sha256=request_digest(renewed)[1],
        traceparent=wish.traceparent,
        source=wish.source,
        submitted_at=now,
        queued_at=now,
        cost=cost,
    )
