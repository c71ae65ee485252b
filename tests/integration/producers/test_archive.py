"""What a client with a database learns from Postgres, and what it does without it."""

import secrets
import threading
from collections.abc import Iterator

import pytest

from producers import Headrace
from runtime.database import Database, outcomes
from runtime.database.migrate import upgrade
from schemas.errors import JobNotFound, ServerUnreachable
from schemas.events import State
from schemas.topics import RESULTS
from tests.integration.database.rows import admission, leased, settlement
from tests.integration.producers.stub import StubPlatform

WAIT_S = 20.0
AWAY = "postgresql+psycopg2://nobody@127.0.0.1:1/none"


@pytest.fixture(scope="module")
def database(database_url: str) -> Iterator[Database]:
    opened = Database(database_url)
    upgrade(opened)
    yield opened
    opened.close()


@pytest.fixture
def client(topics_created: str, database: Database, database_url: str) -> Iterator[Headrace]:  # noqa: ARG001
    with Headrace.connect(topics_created, database=database_url) as connected:
        yield connected


@pytest.fixture
def degraded(topics_created: str) -> Iterator[Headrace]:
    """A client whose database is away."""
    with Headrace.connect(topics_created, database=AWAY) as connected:
        yield connected


def new_id() -> str:
    return f"mine-{secrets.token_hex(8)}"


def test_a_result_that_is_on_no_topic_any_more_comes_from_the_database(client: Headrace, database: Database) -> None:
    job_id = new_id()
    with database.begin() as connection:
        (job,) = leased(connection, admission(job_id))
        outcomes.settle(connection, [settlement(job)])

    event = client.result(job_id, WAIT_S)
    assert event == settlement(job).event
    found = client.status(job_id)
    assert (found.state, found.model, found.finished_at) == (State.SUCCEEDED, "example-base", event.finished_at)


def test_a_result_that_is_not_stored_yet_is_awaited_on_the_topic(
    client: Headrace, database: Database, platform: StubPlatform
) -> None:
    job_id = new_id()
    with database.begin() as connection:
        leased(connection, admission(job_id))
    waiting = client.expect(job_id)
    platform.succeed(job_id)

    assert waiting.result(WAIT_S).job_id == job_id
    assert client.status(job_id).state is State.SCHEDULED


def test_a_job_that_is_in_no_row_is_not_found(client: Headrace) -> None:
    with pytest.raises(JobNotFound):
        client.status(new_id())


def test_the_last_jobs_are_listed_newest_first_and_only_ones_own(client: Headrace, database: Database) -> None:
    mine, theirs = [new_id() for _ in range(3)], new_id()
    with database.begin() as connection:
        leased(connection, *(admission(job_id) for job_id in mine), admission(theirs, tenant="other"))

    listed = [item.job_id for item in client.jobs(1_000)]
    assert set(mine) <= set(listed)
    assert theirs not in listed
    assert len(client.jobs(2)) == 2


def test_the_topics_serve_while_the_database_is_away(degraded: Headrace, platform: StubPlatform) -> None:
    job_id = new_id()
    platform.state(job_id, State.RUNNING)
    platform.succeed(job_id)

    assert degraded.status(job_id).state is State.RUNNING
    assert degraded.result(job_id, WAIT_S).job_id == job_id
    with pytest.raises(ServerUnreachable, match="Postgres"):
        degraded.jobs()


def test_several_threads_open_the_database_once(client: Headrace, platform: StubPlatform) -> None:
    job_ids = [new_id() for _ in range(8)]
    platform.garbage(RESULTS, job_ids[0], [b"{"])
    waiting = [client.expect(job_id) for job_id in job_ids]
    platform.succeed(*job_ids)

    assert [waiter.result(WAIT_S).job_id for waiter in waiting] == job_ids
    assert threading.active_count() < 50
