"""The events of one job, read from the partitions in which its key lies."""

import logging
from collections import OrderedDict
from collections.abc import Sequence
from datetime import datetime
from typing import Final

import msgspec
from confluent_kafka import KafkaError, Message

from producers.cluster import Cluster
from producers.silence import Silence
from runtime.kafka_consumers import placed_consumer
from schemas.codec import decode
from schemas.events import ProgressEvent, StatusEvent
from schemas.results import ResultEvent
from schemas.topics import PROGRESS, RESULTS, STATUS, Topic

JobEvent = ProgressEvent | StatusEvent | ResultEvent

logger = logging.getLogger(__name__)

#: A poll returns at least so often, to look whether it should stop.
POLL_S: Final = 0.1
#: A copy comes soon after its original, so these need not be all events of the job.
REMEMBERED_IDS: Final = 10_000

_EVENT_TYPES: Final[dict[str, object]] = {
    PROGRESS.name: ProgressEvent,
    STATUS.name: StatusEvent,
    RESULTS.name: ResultEvent,
}


class JobFeed:
    """A reader of some topics for one job: each event once, in the order of its topic. For one thread."""

    def __init__(
        self, cluster: Cluster, topics: Sequence[Topic], tenant: str, job_id: str, since: datetime | None
    ) -> None:
        self._cluster = cluster
        self._tenant, self._job_id, self._key = tenant, job_id, job_id.encode()
        places = [cluster.place(topic, job_id, since) for topic in topics]
        self._topics = {topic.name: topic for topic in topics}
        self._first_ends = self.ends()
        self._consumer = placed_consumer(cluster.bootstrap, places, report_ends=True)
        #: The next offset by topic, and the topics that were read to their end.
        self._next: dict[str, int] = {}
        self._ended: set[str] = set()
        self._seen: OrderedDict[bytes, None] = OrderedDict()
        self._silence = Silence(cluster)

    @property
    def caught_up(self) -> bool:
        """Whether every topic has been read to the end that it had when the feed was opened.

        Of the end that it has now a topic into which others write without a pause tells nothing.
        """
        return all(name in self._ended or self._next.get(name, 0) >= end for name, end in self._first_ends.items())

    def poll(self) -> JobEvent | None:
        """The job's next event; None after ``POLL_S`` without one, or where a record is not the job's.

        Raises:
            ServerUnreachable: no broker answers, or it refuses to be read.
        """
        message = self._consumer.poll(POLL_S)
        self._silence.hear([message] if message else [])
        if message is None:
            return None
        error = message.error()
        if error is None:
            return self._event(message)
        if error.code() == KafkaError._PARTITION_EOF:
            self._ended.add(message.topic() or "")
            self._next[message.topic() or ""] = message.offset() or 0
        return None

    def behind(self, ends: dict[str, int]) -> bool:
        """Whether a topic has records below its given end that were not read yet."""
        return any(self._next.get(topic, 0) < end for topic, end in ends.items())

    def ends(self) -> dict[str, int]:
        """The end of each topic's partition at this moment."""
        found = {}
        for name, topic in self._topics.items():
            partition = self._cluster.partition(topic, self._job_id)
            found[name] = self._cluster.ends(topic, [partition])[partition]
        return found

    def close(self) -> None:
        """Close the connections."""
        self._consumer.close()

    def _event(self, message: Message) -> JobEvent | None:
        topic, offset, value = message.topic() or "", message.offset() or 0, message.value()
        self._next[topic] = offset + 1
        if message.key() != self._key or value is None or self._is_copy(message):
            return None
        try:
            event: JobEvent = decode(_EVENT_TYPES[topic], value)
        except msgspec.DecodeError as error:
            logger.warning("skipped offset %d of %s, which is no such event: %s", offset, topic, error)
            return None
        # Two tenants may use the same id.
        return event if event.tenant == self._tenant else None

    def _is_copy(self, message: Message) -> bool:
        headers = message.headers()
        found = dict(headers).get("ce_id") if isinstance(headers, list) else None
        if not isinstance(found, bytes):
            return False
        if found in self._seen:
            return True
        self._seen[found] = None
        if len(self._seen) > REMEMBERED_IDS:
            self._seen.popitem(last=False)
        return False
