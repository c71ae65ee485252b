"""A record that aiokafka can't read, because the name of a header is not UTF-8, is read by another client.

Kafka takes any bytes for a header's name; aiokafka raises in the middle of the fetch, each time anew,
so one such record would stop everybody's requests for ever.
"""

import logging
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Final

from confluent_kafka import TopicPartition

from runtime.kafka_consumers import placed_consumer

log = logging.getLogger(__name__)

WAIT_S: Final = 5.0


@dataclass(frozen=True)
class Salvaged:
    """One record, without its headers: confluent-kafka does not survive the name either, if it is asked."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]] = field(default=())


def salvage(bootstrap: str, topic: str, partition: int, offset: int) -> list[Salvaged]:
    """The first record from ``offset`` on; none where it does not come within ``WAIT_S``. Blocks."""
    log.warning("A record of %s-%d, from offset %d on, has a header whose name is no text.", topic, partition, offset)
    with closing(placed_consumer(bootstrap, [TopicPartition(topic, partition, offset)])) as consumer:
        return [
            Salvaged(topic, partition, message.offset() or 0, message.timestamp()[1], message.key(), message.value())
            for message in consumer.consume(1, WAIT_S)
            if message.error() is None
        ]
