"""Wishes and admissions that don't see each other, in transactions of their own on a real Postgres."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from math import inf

import pytest
from sqlalchemy import Connection, text

from runtime.database import Database, admissions, control, queries, remembered
from runtime.database.wishes import Wish
from schemas.events import ControlEvent, State
from tests.integration.database.rows import admission
from tests.integration.database.waiting import wait_for_lock

ID = "met-1"
PAUSE, RESUME, CANCEL = (Wish(ControlEvent(action=action, job_id=ID)) for action in ("pause", "resume", "cancel"))


@pytest.fixture(autouse=True)
def tidied(database: Database) -> Iterator[None]:
    yield
    with database.begin() as connection:
        for table in ("outbox", "results", "wishes"):
            connection.execute(text(f"DELETE FROM {table} WHERE job_id = '{ID}'"))  # noqa: S608
        connection.execute(text(f"DELETE FROM jobs WHERE id = '{ID}'"))  # noqa: S608


def admit(connection: Connection) -> None:
    admissions.admit(connection, [admission(ID)])


def admit_unseen(connection: Connection) -> None:
    """Admit the job as by a transaction that began before its client wanted anything."""
    admit(connection)
    connection.execute(text(f"UPDATE jobs SET control = NULL WHERE id = '{ID}'"))  # noqa: S608


def want(*wishes: Wish) -> Callable[[Connection], None]:
    """What a client wants."""

    def apply(connection: Connection) -> None:
        control.apply(connection, wishes, lambda: datetime.now(UTC))

    return apply


def sweep(connection: Connection) -> None:
    control.sweep(connection, lambda: datetime.now(UTC), 100)


@contextmanager
def open_transaction(database: Database, *works: Callable[[Connection], object]) -> Iterator[None]:
    """Do this in a transaction that ends after the block."""
    with closing(database.engine.connect()) as connection, connection.begin():
        for work in works:
            work(connection)
        yield


def run(database: Database, *works: Callable[[Connection], object]) -> None:
    """Each in a transaction of its own."""
    for work in works:
        with database.begin() as connection:
            work(connection)


def state(database: Database) -> State:
    with database.begin() as connection:
        job = queries.find_job(connection, "default", ID)
    assert job is not None
    return job.state


def test_a_resume_counts_although_the_admission_that_noted_the_pause_was_not_seen(database: Database) -> None:
    run(database, want(PAUSE))
    with open_transaction(database, admit):
        run(database, want(RESUME))
    run(database, sweep, sweep)
    assert state(database) is State.QUEUED


def test_a_cancel_counts_although_the_admission_that_noted_the_pause_was_not_seen(database: Database) -> None:
    run(database, want(PAUSE))
    with open_transaction(database, admit):
        run(database, want(CANCEL))
    run(database, sweep)
    assert state(database) is State.CANCELLED


def test_a_resume_that_does_not_see_the_job_waits_for_a_sweep_that_pauses_it(database: Database) -> None:
    """The client's transaction looks for the job before the sweep's does, and writes after it."""
    run(database, want(PAUSE))
    with ThreadPoolExecutor(1) as pool, closing(database.engine.connect()) as client, client.begin():
        assert queries.find_job(client, "default", ID) is None
        run(database, admit_unseen)
        with open_transaction(database, sweep):
            resumed: Future[None] = pool.submit(remembered.remember, client, [RESUME.event])
            wait_for_lock(database)
        resumed.result(10)
    assert state(database) is State.PAUSED
    run(database, sweep)
    assert state(database) is State.QUEUED


def test_a_sweep_leaves_a_pause_that_a_resume_is_about_to_replace(database: Database) -> None:
    run(database, want(PAUSE))
    with open_transaction(database, want(RESUME)):
        run(database, admit_unseen, sweep)
    run(database, sweep)
    assert state(database) is State.QUEUED


@pytest.mark.parametrize(
    ("since_s", "becomes"), [(0.0, State.QUEUED), (600.0, State.CANCELLED), (inf, State.CANCELLED)]
)
def test_a_sweep_looks_for_what_has_met_since_the_one_before(
    database: Database, since_s: float, becomes: State
) -> None:
    """All processes, or Postgres, were stopped for ten minutes just after a wish and its job had met unseen."""
    run(database, want(CANCEL), admit_unseen)
    with database.begin() as connection:
        connection.execute(text("UPDATE wishes SET created_at = now() - interval '10 minutes'"))
        control.sweep(connection, lambda: datetime.now(UTC), 100, since_s)
    assert state(database) is becomes
