"""Agent of the request topics: bytes to admitted jobs, or to dead letters."""

import asyncio
import sys
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from runtime.database.admissions import RANK, Admission, Admitted, admit_and_lease, needed_model
from runtime.database.clock import clock
from runtime.database.jobs import QueuedJob
from runtime.database.thread import DatabaseThread
from runtime.kafka import Publisher
from schemas.errors import RequestRefused
from schemas.events import State, StatusEvent
from schemas.requests import Request
from schemas.topics import DEAD_LETTERS, Kind
from streams.admission import Verdict, confirm, dead_letter_headers, is_late, judge, refuse
from streams.announcements import publish_status
from streams.chunks import Chunk, Record
from streams.deliveries import Send, insist
from streams.dispatch import Dispatch
from streams.instruments import Instruments
from streams.quotas import Quotas

#: Chunks of a topic that are admitted at once: one is judged while Postgres writes the one before.
AT_ONCE: Final = 2


class Intake:
    """Admits requests, and hands their jobs on: to ``dispatch``, which may have a worker for them already."""

    def __init__(
        self,
        database: DatabaseThread,
        publisher: Publisher,
        instruments: Instruments,
        quotas: Quotas,
        dispatch: Dispatch,
    ) -> None:
        self._database = database
        self._publisher = publisher
        self._instruments = instruments
        self._quotas = quotas
        self._dispatch = dispatch
        self._entrance = asyncio.Lock()
        #: Jobs of each tenant on their way into the database.
        self._coming: Counter[str] = Counter()

    async def admit(self, kind: Kind, chunk: Chunk) -> None:
        """Admit the requests of a chunk; when this returns, the chunk may be acknowledged.

        The next may be given before; they are admitted in the order in which they were given.

        1. Wait until there is room in the queue; judge each record. Jobs that need not wait are given workers. A
           crash leaves nothing behind.
        2. One transaction: the rows of all jobs, with the leases of those that have workers, and result and outbox
           row of those that will not run. A crash leaves the chunk to be read again; its rows are known as its own
           by topic, partition and offset. A worker that was not told of its lease is told by others (``work``).
        3. Tell the workers and the scheduler, and publish the states. A crash loses them: the scheduler reads its
           jobs from the database, and a job's next state follows.
        4. Publish the dead letters, and wait for Kafka. A crash repeats them, with the same origin.

        While Postgres or Kafka is away, the step is tried again; nothing is skipped.
        """
        started_s = asyncio.get_running_loop().time()
        async with self._entrance:
            # One after the other, in their order: all who wait for room are told of it at once.
            await self._quotas.room()
            verdicts = await self._judge(kind, chunk.records)
        judged = self._within_quotas(verdicts)
        letters = await self._dispatch.underway.finish(self._admit(kind, judged))
        await insist([self._letter(kind, record, refusal) for record, refusal in letters])
        for _, refusal in letters:
            self._instruments.dead_letters.labels(kind, refusal.code).inc()
        self._instruments.chunk_s.labels(kind).observe(asyncio.get_running_loop().time() - started_s)

    async def _judge(self, kind: Kind, records: Sequence[Record]) -> list[Verdict]:
        verdicts = [judge(kind, record, datetime.now(UTC)) for record in records]
        if not any(map(is_late, verdicts)):
            return verdicts
        # Not by this process' clock alone, which may be ahead. If it is behind, the job is not leased, and swept.
        now = await self._database.insist(clock)
        return [judge(kind, verdict.record, now) if is_late(verdict) else verdict for verdict in verdicts]

    async def _admit(self, kind: Kind, judged: Sequence[Verdict]) -> list[tuple[Record, RequestRefused]]:
        """Steps 2 and 3; the records that become dead letters, and why."""
        admissions = [verdict.admission for verdict in judged if verdict.admission]
        jobs = [_queued(row, row.request) if row.request and not row.rejection else None for row in admissions]
        coming = [job for job in jobs if job]
        given = self._dispatch.place(kind, coming)
        workers = {(assignment.job.tenant, assignment.job.id): assignment.worker_id for assignment in given}
        tenants = Counter(job.tenant for job in coming)
        self._coming += tenants
        # In turn: of two requests of one id, the first is admitted.
        asked_s = asyncio.get_running_loop().time()
        fates, leased = await self._database.in_turn(admit_and_lease, admissions, workers, self._dispatch.lease_s)
        self._coming -= tenants
        self._count(kind, admissions, fates)

        queued = [job for job, fate in zip(jobs, fates, strict=True) if job and fate is Admitted.NEW]
        for job in queued:
            publish_status(self._publisher, _status(job), job.traceparent)
        self._dispatch.hand_out(given, leased, asked_s)
        gone = {(item.job.tenant, item.job.id) for item in leased}
        waiting = [job for job in queued if (job.tenant, job.id) not in gone]
        self._quotas.admitted(job.tenant for job in waiting)
        self._dispatch.add(waiting)
        return [(verdict.record, verdict.refusal) for verdict in _confirmed(judged, fates) if verdict.refusal]

    def _within_quotas(self, verdicts: Sequence[Verdict]) -> list[Verdict]:
        more: Counter[str] = Counter()
        kept: list[Verdict] = []
        for verdict in verdicts:
            row = verdict.admission
            if row is None or row.rejection:
                kept.append(verdict)
                continue
            refusal = self._quotas.refusal(row.tenant, self._coming[row.tenant] + more[row.tenant])
            more[row.tenant] += 1
            kept.append(refuse(verdict, refusal) if refusal else verdict)
        return kept

    def _count(self, kind: Kind, admissions: Sequence[Admission], fates: Sequence[Admitted]) -> None:
        became = [row.state if fate is Admitted.NEW else fate for row, fate in zip(admissions, fates, strict=True)]
        for fate, count in Counter(became).items():
            self._instruments.requests.labels(kind, fate.value).inc(count)
        latency_s, now = self._instruments.latency_s.labels(kind), datetime.now(UTC)
        for row in admissions:
            latency_s.observe((now - row.submitted_at).total_seconds())

    def _letter(self, kind: Kind, record: Record, refusal: RequestRefused) -> Send:
        """Key, value and headers: the original's. A duplicate names the same offset of the same topic."""
        return lambda on_delivery: self._publisher.publish_raw(
            DEAD_LETTERS[kind].name,
            record.key,
            record.value,
            dead_letter_headers(record, refusal),
            on_delivery=on_delivery,
        )


def _confirmed(verdicts: Sequence[Verdict], fates: Sequence[Admitted]) -> list[Verdict]:
    answers = iter(fates)
    return [confirm(verdict, next(answers)) if verdict.admission else verdict for verdict in verdicts]


def _queued(row: Admission, request: Request) -> QueuedJob:
    return QueuedJob(
        tenant=sys.intern(row.tenant),
        id=row.id,
        kind=row.kind,
        priority=RANK[request.priority],
        model=sys.intern(needed_model(request)),
        queued_at=row.queued_at,
        traceparent=row.traceparent,
        cost=row.cost,
    )


def _status(job: QueuedJob) -> StatusEvent:
    return StatusEvent(job_id=job.id, tenant=job.tenant, kind=job.kind, state=State.QUEUED, attempt=1, at=job.queued_at)
