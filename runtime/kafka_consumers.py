"""Consumers of assigned partitions: no groups, no rebalances."""

from collections.abc import Mapping, Sequence
from typing import Final, Literal

from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, Message, TopicPartition

from runtime.kafka import RECONNECT

#: What a consumer holds before it is asked for. By default that is 100,000 records and 64 MB a partition, a peak each
#: time that a topic was read through. A record larger than a fetch comes all the same, alone (KIP-74).
READ_AHEAD: Final = {
    "queued.min.messages": 2_000,
    "queued.max.messages.kbytes": 8_192,
    "fetch.message.max.bytes": 1_048_576,
}
#: The client wants a group's name, although nothing is ever committed under it.
ASSIGNED: Final = "headrace-assigned"
#: librdkafka's levels are syslog's.
WARNINGS: Final = 4


def assigned_consumer(
    bootstrap: str,
    topic: str,
    partitions: Sequence[int],
    at: Literal["beginning", "end"] | Mapping[int, int],
) -> Consumer:
    """A consumer that reads the given partitions from ``at`` (both ends, or an offset a partition).

    It joins no group and commits nothing; it sees committed transactions only.
    """
    match at:
        case "beginning":
            offsets = dict.fromkeys(partitions, OFFSET_BEGINNING)
        case "end":
            offsets = dict.fromkeys(partitions, OFFSET_END)
        case _:
            offsets = dict(at)
    return placed_consumer(
        bootstrap, [TopicPartition(topic, partition, offsets[partition]) for partition in partitions]
    )


def placed_consumer(bootstrap: str, places: Sequence[TopicPartition], *, report_ends: bool = False) -> Consumer:
    """As ``assigned_consumer``, for partitions of any topics, each from its own offset.

    With ``report_ends`` a poll also returns a ``_PARTITION_EOF`` error where a partition is read to its end.
    """
    consumer = Consumer(
        {
            **_client(bootstrap),
            "isolation.level": "read_committed",
            # Where an offset's record was deleted since, read on from the oldest one that is there.
            "auto.offset.reset": "earliest",
            "fetch.wait.max.ms": 100,
            **READ_AHEAD,
            "enable.partition.eof": report_ends,
        }
    )
    consumer.assign(list(places))
    return consumer


def asking_consumer(
    bootstrap: str, group: str = ASSIGNED, *, log_level: int = WARNINGS, past_open_transactions: bool = False
) -> Consumer:
    """A client that asks about topics, and about what a group has committed; it reads nothing and joins nothing.

    Unlike an admin client it can be closed. To it a partition ends before the first transaction that is still open,
    as for those who read; with ``past_open_transactions`` where it really ends.
    """
    isolation = "read_uncommitted" if past_open_transactions else "read_committed"
    return Consumer({**_client(bootstrap, group, log_level), "isolation.level": isolation})


def next_messages(consumer: Consumer, most: int, wait_s: float) -> list[Message]:
    """What there is, at most so many, as soon as there is one; none after ``wait_s``.

    ``Consumer.consume`` alone waits until its batch is full or its time is over.
    """
    first = consumer.poll(wait_s)
    return [] if first is None else [first, *consumer.consume(most - 1, timeout=0)]


def _client(bootstrap: str, group: str = ASSIGNED, log_level: int = WARNINGS) -> dict[str, str | int | bool]:
    return {
        **RECONNECT,
        "bootstrap.servers": bootstrap,
        "group.id": group,
        "enable.auto.commit": False,
        "log_level": log_level,
    }
