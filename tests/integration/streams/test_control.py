"""Clients' wishes through the dispatcher's process: what ends in the queue, what workers hear, what comes back."""

import json
from datetime import UTC, datetime, timedelta

from sqlalchemy import text

from runtime.database import Database
from runtime.kafka import Publisher
from schemas import topics
from schemas.codec import decode
from schemas.events import ControlEvent
from schemas.results import ResultEvent
from schemas.topics import Kind
from tests.integration.streams.conftest import StartDispatcher
from tests.integration.streams.observing import Written, lag, states, tail, until
from tests.integration.streams.stub_worker import StubWorker


def request(publisher: Publisher, job_id: str, **fields: object) -> None:
    body = {"id": job_id, "model": "example-base", "prompt": "1 May 2026 -> ", **fields}
    publisher.publish_raw(topics.REQUESTS[Kind.GENERATE].name, job_id.encode(), json.dumps(body).encode(), [])
    publisher.flush(30)


def want(publisher: Publisher, action: str, job_id: str, **fields: object) -> None:
    """Write a wish by hand, as anybody can: without headers."""
    body = {"action": action, "job_id": job_id, **fields}
    publisher.publish_raw(topics.CONTROL.name, job_id.encode(), json.dumps(body).encode(), [])
    publisher.flush(30)


def queued(database: Database, job_id: str) -> None:
    assert until(lambda: states(database, job_id), lambda found: found == {"queued": 1}) == {"queued": 1}


def end(record: Written) -> ResultEvent:
    event: ResultEvent = decode(ResultEvent, record.value or b"")
    return event


def test_a_queued_job_that_is_cancelled_ends_once_and_never_starts(
    broker: str, database: Database, publisher: Publisher, start_dispatcher: StartDispatcher
) -> None:
    start_dispatcher()
    with tail(broker, topics.RESULTS.name) as results, tail(broker, topics.STATUS.name) as statuses:
        request(publisher, "cancel-queued")
        queued(database, "cancel-queued")
        publisher.publish_raw(topics.CONTROL.name, None, b"cancel it, please", [])
        publisher.publish_raw(topics.CONTROL.name, None, None, [("ce_type", b"\xff")])
        want(publisher, "cancel", "cancel-queued", tenant="another")
        for _ in range(2):
            want(publisher, "cancel", "cancel-queued", reason="too slow")
        (record,) = results.take_of("cancel-queued", 1)
        told = [json.loads(item.value or b"")["state"] for item in statuses.take_of("cancel-queued", 2)]
        worker = StubWorker(broker, database, publisher, "stub-late")
        worker.answers.set()
        with worker.running():
            request(publisher, "after-it")
            results.take_of("after-it", 1)
        assert [item.key for item in results.rest()] == []
    assert [event.job.id for event in worker.events] == ["after-it"]
    ended = end(record)
    assert ended.status == "cancelled"
    assert ended.error
    assert ended.error.message == "Its client cancelled the job: too slow."
    assert told == ["queued", "cancelled"]
    assert until(lambda: lag(broker, topics.CONTROL.name), lambda behind: behind == 0) == 0


def test_a_cancel_that_comes_before_its_request_finds_it(
    broker: str, database: Database, publisher: Publisher, start_dispatcher: StartDispatcher
) -> None:
    start_dispatcher()
    worker = StubWorker(broker, database, publisher, "stub-early")
    with worker.running(), tail(broker, topics.RESULTS.name) as results:
        want(publisher, "cancel", "cancel-early")
        assert until(lambda: lag(broker, topics.CONTROL.name), lambda behind: behind == 0) == 0
        request(publisher, "cancel-early")
        (record,) = results.take_of("cancel-early", 1)
    assert end(record).status == "cancelled"
    assert worker.events == []


def test_the_worker_of_a_running_job_hears_of_a_cancel_behind_the_job_itself(
    broker: str, database: Database, publisher: Publisher, start_dispatcher: StartDispatcher
) -> None:
    start_dispatcher()
    worker = StubWorker(broker, database, publisher, "stub-told")
    with worker.running(), tail(broker, topics.STATUS.name) as statuses:
        request(publisher, "cancel-running")
        until(lambda: worker.events, bool)
        want(publisher, "cancel", "cancel-running", keep_partial=True)
        (stop,) = until(lambda: worker.stops, bool)
        told = [json.loads(item.value or b"")["state"] for item in statuses.take_of("cancel-running", 3)]
    assert stop.lease == worker.events[0].lease
    assert stop.control == ControlEvent(action="cancel", job_id="cancel-running", keep_partial=True)
    assert told == ["queued", "scheduled", "cancelling"]


def test_a_paused_job_waits_until_it_is_resumed_and_a_cancelled_one_is_retried_under_a_new_id(
    broker: str, database: Database, publisher: Publisher, start_dispatcher: StartDispatcher
) -> None:
    start_dispatcher()
    with tail(broker, topics.RESULTS.name) as results:
        request(publisher, "pause-me")
        request(publisher, "retry-me")
        queued(database, "pause-me")
        queued(database, "retry-me")
        want(publisher, "pause", "pause-me")
        want(publisher, "cancel", "retry-me")
        results.take_of("retry-me", 1)
        until(lambda: states(database, "pause-me"), lambda found: found == {"paused": 1})
        worker = StubWorker(broker, database, publisher, "stub-resume")
        worker.answers.set()
        with worker.running():
            want(publisher, "retry", "retry-me", new_id="retried")
            (retried,) = results.take_of("retried", 1)
            assert [event.job.id for event in worker.events] == ["retried"]
            want(publisher, "resume", "pause-me")
            (resumed,) = results.take_of("pause-me", 1)
    assert (end(retried).status, end(resumed).status) == ("succeeded", "succeeded")


def test_a_job_whose_deadline_passes_in_the_queue_expires(
    broker: str, database: Database, publisher: Publisher, start_dispatcher: StartDispatcher
) -> None:
    start_dispatcher()
    with tail(broker, topics.RESULTS.name) as results:
        request(publisher, "late", deadline=(datetime.now(UTC) + timedelta(hours=1)).isoformat())
        queued(database, "late")
        # The hour passes, however long it took until here.
        with database.begin() as connection:
            move = text("UPDATE jobs SET deadline = now() + interval '1 s' WHERE id = 'late' RETURNING deadline")
            deadline: datetime = connection.execute(move).scalar_one()
        (record,) = results.take_of("late", 1)
    ended = end(record)
    assert ended.status == "expired"
    assert ended.finished_at >= deadline
    assert ended.error
    assert "passed while the job was queued" in ended.error.message
