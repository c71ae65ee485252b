"""Reading the queue page by page, on a real Postgres."""

from datetime import timedelta

from sqlalchemy import Connection, text

from runtime.database import admissions, jobs
from runtime.database.queue import BEGINNING, Mark, queued
from schemas.requests import GenerateRequest
from schemas.topics import Kind
from tests.integration.database.rows import admission, leased, tuned
from tests.integration.database.rows import queued as as_queued


def admit(connection: Connection, *names: str) -> None:
    """Jobs that became available one second after the other, the last of them a second ago."""
    admissions.admit(connection, [admission(name) for name in names])
    for age_s, name in enumerate(reversed(names), start=1):
        connection.execute(
            text("UPDATE jobs SET available_at = now() - make_interval(secs => :age_s) WHERE id = :id"),
            {"age_s": age_s, "id": name},
        )


def names(connection: Connection, after: Mark, most: int) -> tuple[list[str], Mark, bool]:
    page = queued(connection, Kind.GENERATE, after, most)
    return [job.id for job in page.jobs], page.end, page.last


def test_pages_follow_each_other_without_a_gap_or_a_repeat(connection: Connection) -> None:
    admit(connection, "a", "b", "c", "d", "e")
    first, mark, last = names(connection, BEGINNING, 2)
    assert (first, last) == (["a", "b"], False)
    second, mark, last = names(connection, mark, 2)
    assert (second, last) == (["c", "d"], False)
    assert names(connection, mark, 2)[::2] == (["e"], True)


def test_jobs_of_one_moment_are_on_either_side_of_a_page_s_end(connection: Connection) -> None:
    admissions.admit(connection, [admission(name) for name in "abc"])
    first, mark, _ = names(connection, BEGINNING, 2)
    assert first + names(connection, mark, 2)[0] == ["a", "b", "c"]


def test_the_end_of_the_last_page_is_the_present(connection: Connection) -> None:
    admit(connection, "a", "b", "c")
    _, end, last = names(connection, BEGINNING, 9)
    assert last
    assert names(connection, end, 9)[0] == []
    assert names(connection, end.before(2.5), 9)[0] == ["b", "c"]


def test_a_job_that_is_not_available_yet_is_left_out(connection: Connection) -> None:
    admit(connection, "a")
    connection.execute(text("UPDATE jobs SET available_at = now() + interval '1 hour'"))
    assert names(connection, BEGINNING, 9)[0] == []


def test_a_job_is_read_with_its_cost_its_age_and_the_adapter_that_it_needs(connection: Connection) -> None:
    request = GenerateRequest(model="example-base", prompt="x", adapter=tuned().model)
    row = admission("a", request)
    admissions.admit(connection, [row])
    connection.execute(text("UPDATE jobs SET cost = 77, queued_at = now() - interval '5 seconds'"))
    (job,) = queued(connection, Kind.GENERATE, BEGINNING, 9).jobs
    assert (job.cost, job.model) == (77, tuned().model)
    assert timedelta(seconds=job.waited_s) == timedelta(seconds=5)


def test_a_job_with_a_lease_does_not_wait(connection: Connection) -> None:
    leased(connection, admission("a"))
    row = admission("b")
    admissions.admit(connection, [row])
    assert names(connection, BEGINNING, 9)[0] == ["b"]
    jobs.lease(connection, [(as_queued(row), "worker")], 30.0)
    assert names(connection, BEGINNING, 9)[0] == []
