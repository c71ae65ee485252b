"""Dispatch as a process: jobs go to workers with a free slot, and come back from those that are lost."""

import json
from collections import Counter

from runtime.database import Database, admissions
from runtime.kafka import Publisher
from schemas import topics
from schemas.codec import decode, trace_id_of
from schemas.results import ResultEvent, Terminal
from schemas.topics import Kind
from tests.integration.database.rows import admission
from tests.integration.streams.conftest import StartDispatcher
from tests.integration.streams.observing import states, tail, until
from tests.integration.streams.stub_worker import SLOTS, StubWorker

GENERATE = topics.REQUESTS[Kind.GENERATE]


def publish(publisher: Publisher, prefix: str, count: int) -> None:
    for number in range(count):
        request = {"id": f"{prefix}{number}", "model": "example-base", "prompt": "1 May 2026 -> "}
        publisher.publish_raw(GENERATE.name, None, json.dumps(request).encode(), [])
    publisher.flush(30)


def test_every_job_runs_once_and_no_worker_gets_more_than_its_slots(
    broker: str, database: Database, publisher: Publisher, start_dispatcher: StartDispatcher
) -> None:
    start_dispatcher()
    first = StubWorker(broker, database, publisher, "stub-a")
    second = StubWorker(broker, database, publisher, "stub-b")
    with first.running(), second.running(), tail(broker, topics.RESULTS.name) as results:
        for worker in (first, second):
            worker.answers.set()
        publish(publisher, "once-", 1_000)
        ended = until(lambda: states(database, "once-"), lambda found: found.get("succeeded") == 1_000)
        announced = results.take(1_000)
    assert ended == {"succeeded": 1_000}
    ran = Counter(event.job.id for worker in (first, second) for event in worker.events)
    assert len(ran) == 1_000
    assert set(ran.values()) == {1}
    assert max(first.most_at_once, second.most_at_once) <= SLOTS
    assert len({record.headers["ce_id"] for record in announced}) == 1_000


def test_a_job_goes_to_the_worker_that_holds_its_model(
    broker: str, database: Database, publisher: Publisher, start_dispatcher: StartDispatcher
) -> None:
    start_dispatcher()
    cold = StubWorker(broker, database, publisher, "stub-cold", "another")
    warm = StubWorker(broker, database, publisher, "stub-warm", "example-base")
    with cold.running(), warm.running():
        warm.answers.set()
        cold.answers.set()
        publish(publisher, "seen-", 2 * SLOTS)
        until(lambda: states(database, "seen-"), lambda found: found.get("succeeded") == 2 * SLOTS)
        cold.events.clear()
        publish(publisher, "local-", SLOTS // 2)
        until(lambda: states(database, "local-"), lambda found: found.get("succeeded") == SLOTS // 2)
    assert cold.events == []


def test_jobs_on_their_way_to_a_worker_that_leaves_go_to_another_and_lose_no_attempt(
    broker: str, database: Database, publisher: Publisher, start_dispatcher: StartDispatcher
) -> None:
    start_dispatcher()
    leaving = StubWorker(broker, database, publisher, "stub-leaving")
    with leaving.running():
        publish(publisher, "way-", 4)
        until(lambda: len(leaving.events), lambda found: found == 4)
    leaving.leave()
    staying = StubWorker(broker, database, publisher, "stub-staying")
    staying.answers.set()
    with staying.running():
        until(lambda: states(database, "way-"), lambda found: found.get("succeeded") == 4)
    assert {(event.job.attempt, event.lease.epoch) for event in staying.events} == {(1, 2)}


def test_a_worker_is_told_of_a_lease_that_a_lost_dispatcher_took_and_the_job_keeps_its_attempt(
    broker: str, database: Database, publisher: Publisher, start_dispatcher: StartDispatcher
) -> None:
    worker = StubWorker(broker, database, publisher, "stub-untold")
    row = admission("untold")
    with database.begin() as connection:
        _, (lost,) = admissions.admit_and_lease(connection, [row], {("default", "untold"): worker.name}, 3.0)
    start_dispatcher()
    worker.answers.set()
    with worker.running():
        until(lambda: states(database, "untold"), lambda found: found.get("succeeded") == 1)
    assert {(event.job, event.lease, event.again) for event in worker.events} == {(lost.job, lost.lease, True)}
    assert lost.job.attempt == 1


def test_the_job_of_a_lost_worker_is_tried_again_and_a_third_loss_makes_it_poison(
    broker: str, database: Database, publisher: Publisher, start_dispatcher: StartDispatcher
) -> None:
    start_dispatcher()
    with tail(broker, topics.RESULTS.name) as results, tail(broker, topics.STATUS.name) as statuses:
        worker = StubWorker(broker, database, publisher, "stub-lost")
        # It never answers and never renews its leases; the last attempt is for a worker that has nothing else.
        worker.forgets.set()
        with worker.running():
            publish(publisher, "poison-", 1)
            (record,) = results.take_of("poison-0", 1)
        told = [json.loads(record.value or b"") for record in statuses.take_of("poison-0", 7)]
    end: ResultEvent = decode(ResultEvent, record.value or b"")
    assert (end.job_id, end.status, end.attempt) == ("poison-0", Terminal.FAILED, 3)
    assert end.error
    assert end.error.code == "poison_job"
    assert [(status["state"], status["attempt"]) for status in told] == [
        ("queued", 1), ("scheduled", 1), ("queued", 2), ("scheduled", 2), ("queued", 3), ("scheduled", 3),
        ("failed", 3),
    ]  # fmt: skip
    given = [event for event in worker.events if event.job.id == "poison-0"]
    assert [event.job.attempt for event in given if not event.again] == [1, 2, 3]
    trace = record.headers["traceparent"]
    assert isinstance(trace, bytes)
    assert trace_id_of(trace.decode()) == trace_id_of(worker.events[0].job.traceparent)
