"""What lies in a topic from given places up to where it ends now, as readers of committed records see it."""

import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from runtime.kafka_consumers import asking_consumer, next_messages, placed_consumer

#: How long a broker may take to answer, and say nothing on the way.
SILENCE_S: Final = 10.0
POLL_S: Final = 0.5
BATCH: Final = 1_000


class Stretch:
    """Reads each partition from its place in ``starts``, or where it has none, from the time ``since`` on.

    A partition that ends before its place was made anew, and is read from its beginning.
    """

    def __init__(self, bootstrap: str) -> None:
        self._consumer = placed_consumer(bootstrap, [], report_ends=True)
        # To a reader of committed records a partition ends before an open transaction, and what lies behind it is not
        # there. So another asks: what can't be read yet has to be waited for.
        self._asking = asking_consumer(bootstrap, past_open_transactions=True)
        #: Where each partition ends, by its number.
        self.ends: Mapping[int, int] = {}
        self._unread: set[int] = set()
        self._heard_s = 0.0

    def begin(self, topic: str, starts: Mapping[int, int], since: datetime) -> None:
        """Find out where the partitions end, and go to their places.

        Raises:
            KafkaException: no broker answers, or it does not know the topic.
        """
        found = self._asking.list_topics(topic, timeout=SILENCE_S).topics[topic]
        if found.error or not found.partitions:
            # Not an empty topic: nobody knows what lies in it.
            raise KafkaException(found.error or KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART))
        numbers = found.partitions
        marks = {number: _marks(self._asking, topic, number) for number in numbers}
        self.ends = {number: high for number, (_, high) in marks.items()}
        places = _dated(self._asking, topic, [number for number in numbers if number not in starts], since)
        for number, (low, high) in marks.items():
            start = places.get(number, starts.get(number, high))
            places[number] = start if low <= start <= high else low
        self._unread = {number for number, place in places.items() if place < self.ends[number]}
        self._consumer.assign([TopicPartition(topic, number, places[number]) for number in sorted(self._unread)])
        self._heard_s = time.monotonic()

    def next(self) -> Sequence[Message] | None:
        """Some of the records, none if there are none yet; None once all of them were given.

        Raises:
            KafkaException: no broker answers, or a transaction stays open before the end.
        """
        if not self._unread:
            self._consumer.close()
            self._asking.close()
            return None
        found = next_messages(self._consumer, BATCH, POLL_S)
        records = []
        for message in found:
            error, partition, offset = message.error(), message.partition(), message.offset()
            # Others are outages, over which the consumer goes on by itself.
            if partition is None or offset is None or (error and error.code() != KafkaError._PARTITION_EOF):
                continue
            if error is None:
                self._heard_s = time.monotonic()
                records.append(message)
            # The end may lie behind records that nobody sees, and so be told without one.
            if offset + (error is None) >= self.ends[partition]:
                self._unread.discard(partition)
        if time.monotonic() - self._heard_s > SILENCE_S:
            reason = f"no end of partitions {sorted(self._unread)} for {SILENCE_S:g} s: a transaction may be open there"
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT, reason))
        return records


def _marks(consumer: Consumer, topic: str, partition: int) -> tuple[int, int]:
    """The first offset, and the one that the next record will get."""
    marks = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=SILENCE_S)
    if marks is None:  # the binding's answer to a timeout
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
    return int(marks[0]), int(marks[1])


def _dated(consumer: Consumer, topic: str, partitions: Sequence[int], since: datetime) -> dict[int, int]:
    """The first offset of each partition whose record is not older; a partition without one is left out."""
    if not partitions:
        return {}
    asked = [TopicPartition(topic, number, int(since.timestamp() * 1_000)) for number in partitions]
    found = consumer.offsets_for_times(asked, timeout=SILENCE_S)
    for place in found:
        if place.error:
            raise KafkaException(place.error)
    return {place.partition: place.offset for place in found if place.offset >= 0}
