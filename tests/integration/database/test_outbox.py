"""The outbox is read in the order of its transactions, from a place before any that still runs."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from sqlalchemy import Connection, text

from runtime.database import Database, outbox, outcomes
from runtime.database.outbox import Position
from schemas.codec import decode
from schemas.results import ResultEvent
from tests.integration.database.rows import admission, leased, settlement

MANY_BYTES = 1_000_000
START = Position()


@pytest.fixture(autouse=True)
def _empty(database: Database) -> Iterator[None]:
    yield
    with database.begin() as connection:
        connection.execute(text("TRUNCATE jobs, outbox CASCADE"))


def end(connection: Connection, *ids: str) -> None:
    """Jobs that have their terminal events."""
    items = leased(connection, *(admission(job_id) for job_id in ids))
    outcomes.settle(connection, [settlement(item) for item in items])


def ids(database: Database, after: Position = START, most: int = 10, most_bytes: int = MANY_BYTES) -> list[str]:
    with database.begin() as connection:
        return [row.position.job_id for row in outbox.waiting(connection, after, most, most_bytes).rows]


def test_rows_come_in_the_order_of_their_transactions(database: Database) -> None:
    for job_id in ("c", "a", "b"):
        with database.begin() as connection:
            end(connection, job_id)
    assert ids(database) == ["c", "a", "b"]
    assert ids(database, most=2) == ["c", "a"]


def test_a_row_has_the_event_that_was_stored(database: Database) -> None:
    with database.begin() as connection:
        (item,) = leased(connection, admission("a"))
        ended = settlement(item)
        outcomes.settle(connection, [ended])
    with database.begin() as connection:
        (row,) = outbox.waiting(connection, START, 10, MANY_BYTES).rows
    assert decode(ResultEvent, row.event) == ended.event
    assert row.traceparent == item.job.traceparent


def test_a_transaction_that_still_runs_holds_up_no_result_and_its_own_are_not_passed_over(database: Database) -> None:
    with database.begin() as before:
        end(before, "before")
    with ExitStack() as slow:
        early = slow.enter_context(database.begin())
        end(early, "early")
        with database.begin() as late:
            end(late, "late")
        with database.begin() as connection:
            batch = outbox.waiting(connection, START, 10, MANY_BYTES)
            assert [row.position.job_id for row in batch.rows] == ["before", "late"]
            assert batch.through == batch.rows[0].position
            outbox.published(connection, batch.rows)
        with database.begin() as connection:
            assert outbox.waiting(connection, batch.through, 10, MANY_BYTES) == outbox.Batch((), batch.through)
    assert ids(database, batch.through) == ["early"]


def test_the_place_moves_on_once_nothing_runs(database: Database) -> None:
    with database.begin() as connection:
        end(connection, "a", "b")
    with database.begin() as connection:
        batch = outbox.waiting(connection, START, 10, MANY_BYTES)
    assert batch.through == batch.rows[-1].position


def test_reading_goes_on_after_a_place(database: Database) -> None:
    with database.begin() as connection:
        end(connection, "a", "b", "c")
    with database.begin() as connection:
        first = outbox.waiting(connection, START, 2, MANY_BYTES).rows[-1].position
    assert ids(database, first) == ["c"]


def test_a_batch_ends_with_the_row_that_fills_it(database: Database) -> None:
    with database.begin() as connection:
        end(connection, "a", "b", "c")
    assert ids(database, most_bytes=1) == ["a"]
    with database.begin() as connection:
        size_bytes = len(outbox.waiting(connection, START, 1, MANY_BYTES).rows[0].event)
    assert ids(database, most_bytes=size_bytes + 1) == ["a", "b"]


def test_published_rows_are_dropped(database: Database) -> None:
    with database.begin() as connection:
        end(connection, "a", "b", "c")
    with database.begin() as connection:
        first, _, last = outbox.waiting(connection, START, 3, MANY_BYTES).rows
        outbox.published(connection, [first, last])
    assert ids(database) == ["b"]


def test_rows_that_kafka_has_are_dropped_by_their_events_ids(database: Database) -> None:
    with database.begin() as connection:
        end(connection, "a", "b", "c")
    with database.begin() as connection:
        strangers = (outbox.result_id("default", "z"), outbox.result_id("other", "b"), "default/b/end", "junk", "")
        outbox.landed(connection, [outbox.result_id("default", "a"), outbox.result_id("default", "c"), *strangers])
    assert ids(database) == ["b"]


def test_the_oldest_row_tells_when_it_was_written(database: Database) -> None:
    with database.begin() as connection:
        assert outbox.oldest(connection) is None
        end(connection, "a")
        written_at = connection.execute(text("SELECT now()")).scalar_one()
    with database.begin() as connection:
        end(connection, "b")
    with database.begin() as connection:
        assert outbox.oldest(connection) == written_at


def test_rows_of_another_cluster_are_numbered_anew(database: Database) -> None:
    with database.begin() as connection:
        end(connection, "a")
        connection.execute(text("UPDATE outbox SET transaction = CAST(1 AS bigint) << 40"))
    with database.begin() as connection:
        assert outbox.waiting(connection, START, 10, MANY_BYTES).through == START
        outbox.renumber(connection)
    with database.begin() as connection:
        batch = outbox.waiting(connection, START, 10, MANY_BYTES)
    assert [row.position.job_id for row in batch.rows] == ["a"]
    assert batch.through == batch.rows[-1].position


def test_a_database_has_one_name(database: Database) -> None:
    with database.begin() as connection:
        assert outbox.identity(connection) == outbox.identity(connection) != ""


def test_an_event_id_tells_tenants_apart() -> None:
    assert outbox.result_id("red", "a") != outbox.result_id("blue", "a")
