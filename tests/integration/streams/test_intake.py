"""Intake as a process: requests in, jobs and dead letters out, whatever happens in between."""

import json
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from runtime.database import Database
from runtime.kafka import Publisher
from schemas import topics
from schemas.limits import REQUEST_BYTES
from schemas.topics import Kind
from tests.integration.streams.conftest import StartDispatcher
from tests.integration.streams.observing import lag, outbox, states, tail, until
from tests.servers import execute

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


def test_what_is_refused_is_told_once_to_its_sender_and_leaves_the_first_job_alone(
    broker: str, database: Database, publisher: Publisher, start_dispatcher: StartDispatcher
) -> None:
    start_dispatcher()
    large = request("told-large").replace(b"1 May", b"x" * REQUEST_BYTES)
    late = json.dumps({"id": "told-late", "model": "m", "prompt": "p", "deadline": "2020-01-01T00:00:00Z"}).encode()
    sent = [
        request("told-first"), request("told-first"), request("told-first").replace(b"1 May", b"2 May"),
        b'{"id": "told-wrong", "n": "x"}', large, late, None,
    ]  # fmt: skip
    with tail(broker, GENERATE.dead_letters) as dead_letters, tail(broker, topics.RESULTS.name) as results:
        for value in sent:
            publisher.publish_raw(GENERATE.name, b"same partition", value, [])
        letters = [(letter.headers["dlq.error.code"], letter.value) for letter in dead_letters.take(4)]
        ends = [json.loads(record.value or b"") for record in results.take(3)]
        assert until(lambda: lag(broker, GENERATE.name), lambda records: records == 0) == 0
        assert (dead_letters.rest(), results.rest()) == ([], [])
    assert letters == [
        (b"id_conflict", sent[2]), (b"invalid_request", sent[3]), (b"request_too_large", large),
        (b"malformed_request", None),
    ]  # fmt: skip
    assert {(end["job_id"], end["status"], end["error"]["code"]) for end in ends} == {
        ("told-wrong", "failed", "invalid_request"), ("told-large", "failed", "request_too_large"),
        ("told-late", "expired", "expired"),
    }  # fmt: skip
    assert states(database, "told-") == {"queued": 1, "rejected": 2, "expired": 1}
    assert outbox(database, "told-") == 0


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
        told = Counter(record.key for record in statuses.rest() if (record.key or b"").startswith(b"killed-"))
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


def test_a_database_that_is_away_for_a_while_costs_nothing_but_time(
    broker: str, database: Database, publisher: Publisher, start_dispatcher: StartDispatcher
) -> None:
    dispatcher = start_dispatcher()
    with refusing_connections(database):
        for number in range(2_000):
            publisher.publish_raw(GENERATE.name, None, request(f"outage-{number}"), [])
        publisher.publish_raw(GENERATE.name, None, b"no json", [])
        publisher.flush(30)
        until(lambda: dispatcher.tail(), lambda text: "Trying again" in text)
        assert "Trying again" in dispatcher.tail()
        assert lag(broker, GENERATE.name) == 2_001
    assert until(lambda: states(database, "outage-"), lambda found: found.get("queued") == 2_000) == {"queued": 2_000}
    assert until(lambda: lag(broker, GENERATE.name), lambda records: records == 0) == 0
    assert dispatcher.stop() == 0


def test_a_dispatcher_stops_in_time_though_the_database_is_away(
    database: Database, publisher: Publisher, start_dispatcher: StartDispatcher
) -> None:
    dispatcher = start_dispatcher()
    with refusing_connections(database):
        publisher.publish_raw(GENERATE.name, None, request("late-1"), [])
        publisher.flush(30)
        until(lambda: dispatcher.tail(), lambda text: "Trying again" in text)
        started_s = time.monotonic()
        assert dispatcher.stop() == 0
        assert time.monotonic() - started_s < 10
    start_dispatcher()
    assert until(lambda: states(database, "late-"), lambda found: found.get("queued") == 1) == {"queued": 1}


@contextmanager
def refusing_connections(database: Database) -> Iterator[None]:
    """Postgres ends all connections to this database and takes no more, until the end of the block."""
    name = database.engine.url.database
    server = database.engine.url.set(database="postgres")
    execute(server, f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
    try:
        execute(server, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")  # noqa: S608
        yield
    finally:
        execute(server, f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
