"""The ledger: reads topics and tables from outside, and knows nothing of how the platform works inside."""

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any, Final, Self, cast

import psycopg2
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from schemas import topics
from schemas.dead_letters import HEADERS
from schemas.events import FINAL_STATES
from tests.acceptance.faults.evidence import JobRow, Key, Letter, StatusRecord, Terminal
from tests.acceptance.faults.load import OPERATION
from tests.acceptance.topics import end_offsets

POLL_S: Final = 0.2
WORKER: Final = b"headrace/worker"

SELECT_JOBS: Final = """
    SELECT jobs.tenant, jobs.id, jobs.state, jobs.attempt, jobs.epoch, jobs.error_code,
           results.status, results.event::text,
           (SELECT count(*) FROM usage WHERE usage.tenant = jobs.tenant AND usage.job_id = jobs.id),
           EXISTS (SELECT FROM outbox WHERE outbox.tenant = jobs.tenant AND outbox.job_id = jobs.id)
    FROM jobs LEFT JOIN results ON results.tenant = jobs.tenant AND results.job_id = jobs.id
    WHERE jobs.tenant = ANY(%s)
"""


SELECT_TRANSACTIONS: Final = """
    SELECT pid, application_name, state, wait_event_type, wait_event, now() - xact_start, left(query, 200)
    FROM pg_stat_activity WHERE xact_start IS NOT NULL AND pid <> pg_backend_pid() ORDER BY xact_start
"""


SELECT_OUTBOX: Final = """
    SELECT 'outbox', transaction, tenant, job_id, 'of', pg_snapshot_xmin(pg_current_snapshot())
    FROM outbox ORDER BY transaction, tenant, job_id LIMIT 10
"""


class TopicReader:
    """Reads topics from where they end now, in a thread, with one isolation level, for as long as it is open."""

    def __init__(self, bootstrap: str, names: Sequence[topics.Topic], isolation: str) -> None:
        partitions = [TopicPartition(topic.name, number) for topic in names for number in range(topic.partitions)]
        self._consumer = Consumer({
            "bootstrap.servers": bootstrap,
            "group.id": "headrace-faults",
            "enable.auto.commit": False,
            "isolation.level": isolation,
            "enable.partition.eof": True,
            # Where a new leader's log is shorter than what was read: by default it would go on from the end.
            "auto.offset.reset": "earliest",
            "fetch.message.max.bytes": 8_388_608,
            "log_level": 0,
        })  # fmt: skip
        self._bootstrap = bootstrap
        self._partitions = end_offsets(bootstrap, partitions)
        self._starts = {(place.topic, place.partition): place.offset for place in self._partitions}
        self._consumer.assign(self._partitions)
        self._messages: list[Message] = []
        #: What was read, so that a partition that is read again counts once: topic, partition, offset, value.
        self._read_before: set[tuple[str, int, int, int]] = set()
        #: Where the end of each partition was when it was last reached.
        self._reached: dict[tuple[str, int], int] = {}
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._read, name=f"ledger {isolation}", daemon=True)
        self._thread.start()

    def messages(self, topic: topics.Topic) -> list[Message]:
        """What has come of one topic so far, each partition in its order."""
        return [message for message in tuple(self._messages) if message.topic() == topic.name]

    def has_all(self) -> bool:
        """Whether everything was read that lies in the topics now; blocks, and is False where Kafka does not say.

        For a ``read_committed`` reader an open transaction is not read, so it is False while there is one.
        """
        try:
            ends = end_offsets(self._bootstrap, self._partitions)
        except KafkaException:
            return False
        return all(
            max(self._reached.get((end.topic, end.partition), 0), self._starts[end.topic, end.partition]) >= end.offset
            for end in ends
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._thread.join()
        self._consumer.close()

    def _read(self) -> None:
        while not self._closed.is_set():
            for message in self._consumer.consume(1_000, POLL_S):
                error = message.error()
                if error is None:
                    self._take(message)
                elif error.code() == KafkaError._PARTITION_EOF:
                    self._reached[message.topic() or "", cast(int, message.partition())] = message.offset() or 0

    def _take(self, message: Message) -> None:
        topic, partition, offset = message.topic() or "", message.partition() or 0, message.offset() or 0
        seen = (topic, partition, offset, hash(message.value()))
        if offset >= self._starts[topic, partition] and seen not in self._read_before:
            self._read_before.add(seen)
            self._messages.append(message)


def read_jobs(dsn: str, tenants: Sequence[str]) -> dict[Key, JobRow]:
    """The tables' word on some tenants.

    Raises:
        psycopg2.OperationalError: Postgres is away.
    """
    with closing(psycopg2.connect(dsn, connect_timeout=5)) as connection, connection.cursor() as cursor:
        cursor.execute(SELECT_JOBS, (list(tenants),))
        return {
            (tenant, job_id): JobRow(state, attempt, epoch, status, canonical(event), code, usage_rows, in_outbox)
            for tenant, job_id, state, attempt, epoch, code, status, event, usage_rows, in_outbox in cursor
        }


def unfinished(dsn: str) -> list[str]:
    """What Postgres is at and what waits to be published, for the log of a run that does not come to an end."""
    with closing(psycopg2.connect(dsn, connect_timeout=5)) as connection, connection.cursor() as cursor:
        cursor.execute(SELECT_TRANSACTIONS)
        transactions = cursor.fetchall()
        cursor.execute(SELECT_OUTBOX)
        return [" ".join(str(value) for value in row) for row in (*transactions, *cursor)]


def regressions(before: Mapping[Key, JobRow], after: Mapping[Key, JobRow]) -> Iterator[tuple[Key, str]]:
    """Jobs of which the tables take something back: an attempt, an epoch, an end, or the whole job."""
    for key, old in before.items():
        new = after.get(key)
        if new is None:
            yield key, "its row is gone"
        elif (new.attempt, new.epoch) < (old.attempt, old.epoch):
            yield key, f"attempt {old.attempt}, epoch {old.epoch}, then {new.attempt}, {new.epoch}"
        elif old.state in FINAL_STATES and (new.state, new.result) != (old.state, old.result):
            yield key, f"{old.state}, then {new.state}, or another result"


def terminals(messages: Sequence[Message], tenants: Sequence[str]) -> Iterator[Terminal]:
    """Terminal events of some tenants."""
    for message in messages:
        event = json.loads(message.value() or b"{}")
        if event.get("tenant") in tenants:
            yield Terminal(
                key=(event["tenant"], event["job_id"]),
                event_id=_headers(message).get("ce_id", b"").decode(),
                value=json.dumps(event, sort_keys=True),
                attempt=event["attempt"],
                text=_author(event.get("result") or {}),
            )


def statuses(messages: Sequence[Message], tenants: Sequence[str]) -> Iterator[StatusRecord]:
    """States of some tenants' jobs."""
    for message in messages:
        event = json.loads(message.value() or b"{}")
        if event.get("tenant") in tenants:
            # Dispatchers name the worker of a lease, too, and are known by their envelope.
            worker = event.get("worker_id", "") if _headers(message).get("ce_source") == WORKER else ""
            yield StatusRecord((event["tenant"], event["job_id"]), event["attempt"], event["state"], worker)


def letters(messages: Sequence[Message]) -> Iterator[Letter]:
    """Dead letters, each of its origin once: a crash may repeat one."""
    seen = set()
    for message in messages:
        headers = _headers(message)
        texts = {field: headers.get(header, b"").decode() for field, header in HEADERS.items()}
        origin = (texts["topic"], int(texts["partition"]), int(texts["offset"]))
        if origin not in seen:
            seen.add(origin)
            number = headers.get(OPERATION)
            yield Letter(int(number) if number else None, origin, texts["error_code"])


def canonical(event: str | None) -> str | None:
    """A stored event in the form that ``terminals`` gives those on the topic."""
    return None if event is None else json.dumps(json.loads(event), sort_keys=True)


def _author(result: Mapping[str, Any]) -> str:
    """What the handlers under test write into a result, whatever its kind."""
    choices = result.get("choices") or [{}]
    return choices[0].get("text") or result.get("outputs_uri") or result.get("model") or ""


def _headers(message: Message) -> dict[str, bytes]:
    return {name: value or b"" for name, value in cast(list[tuple[str, bytes | None]], message.headers() or [])}
