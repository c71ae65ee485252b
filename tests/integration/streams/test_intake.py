"""Intake as a process: requests in, jobs and dead letters out, whatever happens in between."""

import json
from collections import Counter

from runtime.database import Database
from runtime.kafka import Publisher
from schemas import topics
from schemas.topics import Kind
from tests.integration.streams.conftest import StartDispatcher
from tests.integration.streams.observing import lag, states, tail, until

GENERATE = topics.REQUESTS[Kind.GENERATE]
FINETUNE = topics.REQUESTS[Kind.FINETUNE]


def request(job_id: str) -> bytes:
    return json.dumps({"id": job_id, "model": "example-base", "prompt": "1 May 2026 -> "}).encode()


def test_a_thousand_malformed_requests_among_a_hundred_good_ones_are_dead_letters_and_stop_nothing(
    broker: str, database: Database, publisher: Publisher, start_dispatcher: StartDispatcher
) -> None:
    sent = {}
    with tail(broker, GENERATE.dead_letters) as dead_letters:
        for number in range(1_100):
            key, header = b"key-%d" % number, ("sent-by", b"\x00\xff")
            if number % 11 == 0:
                publisher.publish_raw(GENERATE.name, key, request(f"mixed-{number}"), [header])
            else:
                sent[key] = b'\xff{"broken": %d' % number
                publisher.publish_raw(GENERATE.name, key, sent[key], [header])
        publisher.flush(30)
        dispatcher = start_dispatcher()
        letters = dead_letters.take(1_000)
        assert until(lambda: lag(broker, GENERATE.name), lambda records: records == 0) == 0
        assert dead_letters.rest() == []
    assert states(database, "mixed-") == {"queued": 100}
    assert {letter.key: letter.value for letter in letters} == sent
    assert len(letters) == 1_000
    assert {letter.headers["sent-by"] for letter in letters} == {b"\x00\xff"}
    assert {letter.headers["dlq.error.code"] for letter in letters} == {b"malformed_request"}
    assert dispatcher.is_running
    assert dispatcher.stop() == 0


def test_a_kill_in_the_middle_of_intake_loses_nothing_and_doubles_nothing(
    broker: str, database: Database, publisher: Publisher, start_dispatcher: StartDispatcher
) -> None:
    count = 10_000
    first = start_dispatcher()
    with tail(broker, topics.STATUS.name) as statuses:
        for number in range(count):
            publisher.publish_raw(GENERATE.name, None, request(f"killed-{number}"), [])
        until(lambda: states(database, "killed-").get("queued", 0), lambda queued: queued > 1_000)
        first.kill()
        before = states(database, "killed-")["queued"]
        publisher.flush(30)
        start_dispatcher()
        queued = until(lambda: states(database, "killed-"), lambda found: found.get("queued") == count)
        assert until(lambda: lag(broker, GENERATE.name), lambda records: records == 0) == 0
        told = Counter(record.key for record in statuses.rest())
    assert before < count, "the kill came too late to show anything"
    assert queued == {"queued": count}
    assert max(told.values()) == 1, "a job that was queued was announced as queued again"


def test_two_dispatchers_that_join_and_leave_skip_nothing(
    broker: str, database: Database, publisher: Publisher, start_dispatcher: StartDispatcher
) -> None:
    first = start_dispatcher()
    for number in range(5_000):
        publisher.publish_raw(GENERATE.name, None, request(f"moved-a-{number}"), [])
    second = start_dispatcher()
    for number in range(5_000):
        publisher.publish_raw(GENERATE.name, None, request(f"moved-b-{number}"), [])
    until(lambda: states(database, "moved-b-").get("queued", 0), lambda queued: queued > 0)
    assert first.stop() == 0
    for number in range(5_000):
        publisher.publish_raw(GENERATE.name, None, request(f"moved-c-{number}"), [])
    publisher.flush(30)
    assert until(lambda: states(database, "moved-"), lambda found: found.get("queued") == 15_000) == {"queued": 15_000}
    assert until(lambda: lag(broker, GENERATE.name), lambda records: records == 0) == 0
    assert second.stop() == 0


def test_each_kind_is_admitted_by_its_own_agent(
    database: Database, publisher: Publisher, start_dispatcher: StartDispatcher
) -> None:
    start_dispatcher()
    tune = {"id": "kinds-f", "model": "example-base", "dataset": {"uri": "dates/train.jsonl"}}
    score = {"id": "kinds-e", "model": "example-base", "dataset": {"uri": "dates/test.jsonl"}}
    publisher.publish_raw(FINETUNE.name, None, json.dumps(tune).encode(), [])
    publisher.publish_raw(topics.REQUESTS[Kind.EVALUATE].name, None, json.dumps(score).encode(), [])
    publisher.publish_raw(GENERATE.name, None, request("kinds-g"), [])
    assert until(lambda: states(database, "kinds-"), lambda found: found.get("queued") == 3) == {"queued": 3}
