"""Read topics as somebody outside of Headrace would."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, cast

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from runtime.kafka_consumers import assigned_consumer
from schemas import topics

WAIT_S: Final = 60.0
#: What a broker says of a partition that was made just now.
NO_LEADER: Final = frozenset({
    KafkaError.LEADER_NOT_AVAILABLE, KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.UNKNOWN_LEADER_EPOCH,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
})  # fmt: skip


@dataclass(frozen=True)
class Record:
    """One record of a topic."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: dict[str, bytes]


class Tail:
    """Everything that is written to a topic from the moment when this was made."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        partitions = len(AdminClient({"bootstrap.servers": bootstrap}).list_topics(topic).topics[topic].partitions)
        # Real offsets instead of "end", which the consumer would resolve only at its first fetch.
        ends = end_offsets(bootstrap, [TopicPartition(topic, number) for number in range(partitions)])
        offsets = {end.partition: end.offset for end in ends}
        self._consumer: Consumer = assigned_consumer(bootstrap, topic, range(partitions), offsets)
        self.records: list[Record] = []

    def until(self, enough: Callable[[list[Record]], bool], wait_s: float = WAIT_S) -> list[Record]:
        """Read on until ``enough`` says so; the test fails when that takes longer than ``wait_s``."""
        deadline = time.monotonic() + wait_s
        while not enough(self.records):
            assert time.monotonic() < deadline, f"only {len(self.records)} records after {wait_s:g} s"
            self.records.extend(self._read())
        return self.records

    def of(self, job_id: str) -> list[Record]:
        """The records of one job so far."""
        return [record for record in self.records if record.key == job_id.encode()]

    def close(self) -> None:
        """Stop reading."""
        self._consumer.close()

    def _read(self) -> Iterator[Record]:
        for message in self._consumer.consume(500, 0.2):
            assert message.error() is None, message.error()
            headers = dict(cast(list[tuple[str, bytes]], message.headers() or []))
            topic, partition, offset = message.topic(), message.partition(), message.offset()
            assert topic is not None
            assert partition is not None
            assert offset is not None
            yield Record(topic, partition, offset, message.key(), message.value(), headers)


@contextmanager
def tails(bootstrap: str, *names: str) -> Iterator[dict[str, Tail]]:
    """A tail of each topic, by its name."""
    opened = {name: Tail(bootstrap, name) for name in names}
    try:
        yield opened
    finally:
        for tail in opened.values():
            tail.close()


def forget_records(bootstrap: str) -> None:
    """Delete every record of Headrace's topics: a platform under test must not run other tests' requests."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    partitions = [TopicPartition(topic.name, number) for topic in topics.ALL for number in range(topic.partitions)]
    # Kafka refuses to delete from a topic that is compacted only.
    deletable = [
        end for end in end_offsets(bootstrap, partitions) if end.topic != topics.STATUS.name and end.offset > 0
    ]
    if deletable:
        for deleted in admin.delete_records(deletable).values():
            deleted.result(WAIT_S)


def end_offsets(bootstrap: str, partitions: list[TopicPartition]) -> list[TopicPartition]:
    """The partitions with the offset that their next record will get."""
    latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]  # the client's stubs leave it out
    # Its answers come for as long as the client is kept.
    admin = AdminClient({"bootstrap.servers": bootstrap})
    deadline_s = time.monotonic() + WAIT_S
    while True:
        answers = admin.list_offsets(dict.fromkeys(partitions, latest))
        try:
            found = {at: answer.result(WAIT_S).offset for at, answer in answers.items()}
        except KafkaException as error:
            if error.args[0].code() not in NO_LEADER or time.monotonic() > deadline_s:
                raise
        else:
            return [TopicPartition(at.topic, at.partition, offset) for at, offset in found.items()]
