"""The simulation's model of Postgres answers as Postgres does: drawn calls go to both, and everything is compared."""

import random
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Literal

import pytest
from sqlalchemy import Connection, text

from runtime.database import Database, admissions, control, jobs, outbox, outcomes, queue, quotas, workers
from runtime.database.admissions import Admission, Source
from runtime.database.jobs import QueuedJob
from runtime.database.leased import LeasedJob
from runtime.database.outbox import Position, Waiting
from runtime.database.outcomes import ExpiredLease, Settlement
from runtime.database.queue import BEGINNING
from runtime.database.wishes import Wish
from schemas.events import ControlEvent, Lease, State
from schemas.results import ErrorInfo, ResultEvent, Terminal
from schemas.topics import Kind
from tests.integration.database.rows import NOW, TRACE, generate, terminal
from tests.simulation.processes import STATEMENTS
from tests.simulation.tables import Tables, Transaction

SEEDS: Final = 10
CALLS: Final = 50
TENANTS: Final = ("a", "b")
IDS: Final = ("j0", "j1", "j2", "j3")
WORKERS: Final = ("w1", "w2")
ACTIONS: Final[tuple[Literal["cancel", "pause", "resume", "retry"], ...]] = ("cancel", "pause", "resume", "retry")
#: Leases and delays are over at once, or last longer than the test.
SPANS_S: Final = (-1.0, 600.0)

MOMENT: Final = text("""
    SELECT now() AS now, (pg_current_xact_id()::text)::bigint AS number,
           (pg_snapshot_xmin(pg_current_snapshot())::text)::bigint AS oldest
""")
JOBS: Final = text("""
    SELECT tenant, id, kind, state, priority, model, request_sha256, attempt, lost_attempts, epoch, worker_id,
           lease_expires_at, queued_at, available_at, scheduled_at, finished_at, error_code, cost,
           control->>'action' AS wish
    FROM jobs ORDER BY tenant, id
""")
RESULTS: Final = text("SELECT tenant, job_id, status, attempt, event::text FROM results ORDER BY tenant, job_id")
OUTBOX: Final = text("SELECT tenant, job_id, transaction, event::text FROM outbox ORDER BY tenant, job_id")
PARTITIONS: Final = text("SELECT partition, worker_id, lease_expires_at FROM workers ORDER BY partition")
CARRIED_OUT: Final = text('SELECT topic, partition, "offset", written_ms FROM carried_out ORDER BY topic, partition')
WISHES: Final = text("SELECT tenant, job_id, control->>'action' FROM wishes ORDER BY tenant, job_id")
Call = tuple[Callable[..., Any], tuple[Any, ...]]


@pytest.fixture
def empty(database: Database) -> Iterator[Database]:
    def clear() -> None:
        with database.begin() as connection:
            connection.execute(text("TRUNCATE jobs, results, outbox, workers, wishes, carried_out CASCADE"))

    clear()
    yield database
    clear()


@pytest.mark.parametrize("seed", range(SEEDS))
def test_the_model_answers_as_postgres_does(empty: Database, seed: int) -> None:
    drawn, tables = Drawn(random.Random(seed)), Tables()
    for number in range(CALLS):
        function, arguments = drawn.call(tables)
        with empty.begin() as connection:
            moment = connection.execute(MOMENT).one()
            answer = function(connection, *arguments)
            rows = postgres_rows(connection)
        tx = Transaction(moment.number, moment.now, moment.oldest)
        modelled = STATEMENTS[function](tables, tx, *arguments)
        where = f"call {number}, {function.__module__}.{function.__name__}{arguments}"
        assert plain(modelled) == plain(answer), where
        for ours, theirs in zip(model_rows(tables), rows, strict=True):
            assert ours == theirs, where


def plain(answer: Any) -> Any:
    """An answer without the order that Postgres does not promise."""
    match answer:
        case [(LeasedJob(), int()), *_]:
            return sorted((item.lease.tenant, item.lease.job_id, repr(item), partition) for item, partition in answer)
        case list() if answer and hasattr(answer[0], "lease"):
            return sorted((item.lease.tenant, item.lease.job_id, item) for item in answer)
        case [(str(), str()), *_]:
            return sorted(answer)
        case list() if answer and isinstance(answer[0], tuple):
            return sorted((item.lease.tenant, item.lease.job_id, repr(item), repr(end)) for item, end in answer)
        case list() if answer and hasattr(answer[0], "fate"):
            return sorted(repr(item) for item in answer)
        case _:
            return answer


def postgres_rows(connection: Connection) -> list[list[tuple[Any, ...]]]:
    """Everything that is stored."""
    queries = (JOBS, RESULTS, OUTBOX, PARTITIONS, WISHES, CARRIED_OUT)
    return [[tuple(row) for row in connection.execute(query)] for query in queries]


def model_rows(tables: Tables) -> list[list[tuple[Any, ...]]]:
    """The same of the model."""
    return [
        [
            (
                row.tenant,
                row.id,
                row.kind.value,
                row.state,
                row.priority,
                row.model,
                row.request_sha256,
                row.attempt,
                row.lost_attempts,
                row.epoch,
                row.worker_id,
                row.lease_expires_at,
                row.queued_at,
                row.available_at,
                row.scheduled_at,
                row.finished_at,
                row.error_code,
                row.cost,
                row.control.action if row.control else None,
            )
            for _, row in sorted(tables.jobs.items())
        ],
        [(*key, row.status, row.attempt, row.event.decode()) for key, row in sorted(tables.results.items())],
        [(*key, row.transaction, row.event.decode()) for key, row in sorted(tables.outbox.items())],
        [(number, row.worker_id, row.lease_expires_at) for number, row in sorted(tables.workers.items())],
        [(*key, wish.action) for key, wish in sorted(tables.wishes.items())],
        [(*place, *known) for place, known in sorted(tables.carried_out.items())],
    ]


class Drawn:
    """Calls drawn by a seed: of jobs that are there or not, under leases that hold or not."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._offset = 0
        self._wish = 0

    def call(self, tables: Tables) -> Call:
        """The next call and its arguments."""
        rng = self._rng
        span_s, most = rng.choice(SPANS_S), rng.choice((1, 2, 10))
        calls: list[Callable[[], Call]] = [
            lambda: (admissions.admit_and_lease, (self._admissions(), self._workers(), span_s)),
            lambda: (jobs.lease, (self._assignments(), span_s)),
            lambda: (queue.queued, (Kind.GENERATE, BEGINNING, most)),
            lambda: (jobs.renew, (self._leases(tables), span_s)),
            lambda: (jobs.unconfirmed, (rng.choice(SPANS_S), most, rng.choice((jobs.FIRST, self._key())))),
            lambda: (
                jobs.give_back,
                (self._leases(tables), rng.choice((State.QUEUED, State.PAUSED)), rng.choice((0.0, span_s))),
            ),
            lambda: (jobs.vacate, ([rng.choice(WORKERS)],)),
            lambda: (outcomes.settle, ([self._settlement(lease) for lease in self._leases(tables)],)),
            lambda: (outcomes.reap, (self._decide(), 10)),
            lambda: (outbox.waiting, (self._position(tables), most, 10**9)),
            lambda: (outbox.published, (self._waiting(tables),)),
            lambda: (outbox.landed, ([outbox.result_id(*self._key()) for _ in range(2)],)),
            lambda: (workers.claim_partition, (rng.choice(WORKERS), "here", span_s)),
            lambda: (
                workers.renew_worker,
                (rng.randrange(2), rng.choice(WORKERS), self._leases(tables), span_s),
            ),
            lambda: (workers.release_partition, (rng.randrange(2), rng.choice(WORKERS))),
            lambda: (control.apply, (self._wishes(tables), lambda: NOW)),
            lambda: (control.sweep, (lambda: NOW, 10)),
            lambda: (quotas.waiting, ()),
        ]
        weights = (4, 5, 1, 2, 1, 1, 1, 2, 2, 1, 1, 1, 1, 1, 1, 3, 1, 1)
        return rng.choices(calls, weights)[0]()

    def _key(self) -> tuple[str, str]:
        return self._rng.choice(TENANTS), self._rng.choice(IDS)

    def _admissions(self) -> list[Admission]:
        keys = dict.fromkeys(self._key() for _ in range(self._rng.randint(1, 4)))
        return [self._admission(*key) for key in keys]

    def _admission(self, tenant: str, job_id: str) -> Admission:
        self._offset += self._rng.random() < 0.8
        request = generate(self._rng.choice(("same", "same", "other")))
        refused = self._rng.random() < 0.15
        error = ErrorInfo("invalid_request", "no")
        end = terminal(job_id, tenant=tenant, status=Terminal.FAILED, error=error) if refused else None
        return Admission(
            tenant=tenant,
            id=job_id,
            kind=Kind.GENERATE,
            request=None if refused else request,
            request_sha256=admissions.request_digest(request)[1],
            traceparent=TRACE,
            source=Source("headrace.requests.generate.v1", 0, self._offset),
            submitted_at=NOW,
            queued_at=datetime(2020, 1, 1, 0, 0, self._rng.randrange(60), tzinfo=UTC),
            rejection=end,
        )

    def _workers(self) -> dict[tuple[str, str], str]:
        return {self._key(): self._rng.choice(WORKERS) for _ in range(self._rng.randint(0, 4))}

    def _assignments(self) -> list[tuple[QueuedJob, str]]:
        keys = dict.fromkeys(self._key() for _ in range(self._rng.randint(1, 4)))
        worker = self._rng.choice(WORKERS)
        return [(QueuedJob(*key, Kind.GENERATE, 1, "example-base", NOW, TRACE), worker) for key in keys]

    def _leases(self, tables: Tables) -> list[Lease]:
        rows = [row for row in tables.jobs.values() if self._rng.random() < 0.5]
        stale = self._rng.random() < 0.3
        return [Lease(row.tenant, row.id, row.epoch - stale, row.worker_id or "nobody") for row in rows]

    def _settlement(self, lease: Lease) -> Settlement:
        return Settlement(lease, terminal(lease.job_id, tenant=lease.tenant))

    def _decide(self) -> Callable[[ExpiredLease], ResultEvent | float]:
        delay_s = self._rng.choice(SPANS_S)

        def decide(item: ExpiredLease) -> ResultEvent | float:
            lost = terminal(item.lease.job_id, tenant=item.lease.tenant, status=Terminal.FAILED)
            return lost if item.lost >= 3 else delay_s

        return decide

    def _position(self, tables: Tables) -> Position:
        places = sorted(row.position for row in tables.outbox.values())
        return self._rng.choice([Position(), *places])

    def _waiting(self, tables: Tables) -> list[Waiting]:
        rows = [row for row in tables.outbox.values() if self._rng.random() < 0.5]
        return [Waiting(row.position, row.traceparent, row.event, State.SUCCEEDED) for row in rows]

    def _wishes(self, tables: Tables) -> Sequence[Wish]:
        tenant, job_id = self._key()
        row = tables.jobs.get((tenant, job_id))
        ended = row is not None and not row.leased and row.state not in ("queued", "paused")
        # The model has no retries of jobs that have ended.
        action = self._rng.choice(ACTIONS[:3] if ended else ACTIONS)
        event = ControlEvent(action=action, tenant=tenant, job_id=job_id)
        # Most are new, and some were read before, or are of a topic that was made anew.
        self._wish = self._wish + 1 if self._rng.random() < 0.7 else max(0, self._wish - self._rng.randrange(3))
        place = Source("headrace.control.v1", self._rng.randrange(2), self._wish)
        return [Wish(event, TRACE, place, self._rng.choice((5, 5, 6)))]
