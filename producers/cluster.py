"""What a client has to know of its Kafka cluster: whether it is there, its topics, and where to begin to read."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Final, TypeVar

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from producers.errors import ClientClosed
from producers.partitions import partition_of
from runtime.kafka_consumers import asking_consumer
from runtime.topic_admin import TopicsMissing
from schemas.errors import ServerUnreachable
from schemas.topics import CONTROL, PROGRESS, REQUESTS, RESULTS, STATUS, Topic

Answer = TypeVar("Answer")

TIMEOUT_S: Final = 5.0
#: How far the clocks of clients, workers and brokers may be apart.
CLOCK_SKEW: Final = timedelta(minutes=10)
RETRY_S: Final = 0.1
#: A partition is getting its leader: it was created a moment ago, or a broker was lost. The last is librdkafka's own
#: word for it, as it asks only for partitions that it has been told of.
_PASSING: Final = frozenset(
    {KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE, KafkaError._UNKNOWN_PARTITION}
)
NEEDED: Final = (*REQUESTS.values(), CONTROL, PROGRESS, STATUS, RESULTS)


class Cluster:
    """Questions to the brokers, one at a time; any thread may ask.

    Raises:
        ServerUnreachable: from each method, and at the start: no broker answered within ``TIMEOUT_S``.
        TopicsMissing: at the start: a topic that a client needs is not there.
        ClientClosed: from each method after ``close``.
    """

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        self._client = asking_consumer(bootstrap, log_level=0)
        self._lock = threading.Lock()
        self._closed = False
        try:
            self._partitions = self._count_partitions()
            self.results_at_start: Mapping[int, int] = self.ends(RESULTS, range(self._partitions[RESULTS.name]))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the connections; later questions raise ``ClientClosed``."""
        with self._lock:
            self._closed = True
            self._client.close()

    def check(self) -> None:
        """Raise ``ServerUnreachable`` unless a broker answers."""
        self._metadata()

    def place(self, topic: Topic, key: str, since: datetime | None) -> TopicPartition:
        """Where to begin to read what is keyed by ``key`` and was not written before ``since``."""
        partition = self.partition(topic, key)
        if since is None:
            return TopicPartition(topic.name, partition, OFFSET_BEGINNING)
        # The end as a number, and asked first: "the end" in words would skip what is written until it is resolved.
        end = self.ends(topic, [partition])[partition]
        asked = TopicPartition(topic.name, partition, int((since - CLOCK_SKEW).timestamp() * 1_000))
        (found,) = self._ask(lambda client: client.offsets_for_times([asked], timeout=TIMEOUT_S))
        return TopicPartition(topic.name, partition, found.offset if found.offset >= 0 else end)

    def partition(self, topic: Topic, key: str) -> int:
        """The partition in which ``key`` lies."""
        return partition_of(key.encode(), self._partitions[topic.name])

    def ends(self, topic: Topic, partitions: Sequence[int]) -> dict[int, int]:
        """The offset that the next record of each partition will have."""
        places = {number: TopicPartition(topic.name, number) for number in partitions}
        return {number: self._ask(partial(_end, place)) for number, place in places.items()}

    def _count_partitions(self) -> dict[str, int]:
        there = self._metadata()
        missing = [topic.name for topic in NEEDED if topic.name not in there]
        if missing:
            raise TopicsMissing(missing)
        return {topic.name: there[topic.name] for topic in NEEDED}

    def _metadata(self) -> dict[str, int]:
        found = self._ask(lambda client: client.list_topics(timeout=TIMEOUT_S).topics)
        return {name: len(topic.partitions) for name, topic in found.items()}

    def _ask(self, question: Callable[[Consumer], Answer]) -> Answer:
        deadline_s = time.monotonic() + TIMEOUT_S
        while True:
            with self._lock:
                if self._closed:
                    raise ClientClosed
                try:
                    return question(self._client)
                except KafkaException as error:
                    if error.args[0].code() not in _PASSING or time.monotonic() > deadline_s:
                        raise ServerUnreachable("Kafka", self.bootstrap, error.args[0].str()) from error
            time.sleep(RETRY_S)


def _end(place: TopicPartition, client: Consumer) -> int:
    return client.get_watermark_offsets(place, TIMEOUT_S)[1]
