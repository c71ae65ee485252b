"""The relay as a process: each result is there once for readers of committed records, whoever is killed when."""

import json
from collections import Counter

from runtime.database import Database
from runtime.kafka import Publisher
from schemas import topics
from schemas.topics import Kind
from tests.integration.streams.conftest import StartDispatcher
from tests.integration.streams.observing import lag, outbox, tail, until

GENERATE = topics.REQUESTS[Kind.GENERATE]
#: Refused at once, so that a result comes of each without a worker.
JOBS = 3_000


def test_a_kill_in_the_middle_of_relaying_repeats_no_result_and_loses_none(
    broker: str, database: Database, publisher: Publisher, start_dispatcher: StartDispatcher
) -> None:
    first = start_dispatcher()
    second = start_dispatcher()
    with tail(broker, topics.RESULTS.name) as results:
        for number in range(JOBS):
            publisher.publish_raw(GENERATE.name, None, json.dumps({"id": f"relay-{number}", "n": "x"}).encode(), [])
        early = results.take(JOBS // 10)
        first.kill()
        late = results.take(JOBS - len(early))
        second.stop()
        start_dispatcher()
        assert until(lambda: outbox(database, "relay-"), lambda rows: rows == 0) == 0
        assert until(lambda: lag(broker, GENERATE.name), lambda records: records == 0) == 0
        assert results.rest() == []
    copies = Counter(str(record.key) for record in early + late)
    assert len(copies) == JOBS
    assert set(copies.values()) == {1}
