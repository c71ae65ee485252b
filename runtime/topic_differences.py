"""Where a topic is not as ``schemas/topics.py`` has it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from schemas.topics import Topic, in_sync

#: What a difference calls the number of partitions, the number of copies, and how many of these a record must have.
PARTITIONS: Final = "partitions"
COPIES: Final = "replication.factor"
IN_SYNC: Final = "min.insync.replicas"


@dataclass(frozen=True)
class Difference:
    """A setting of a topic that is not as it should be; ``found`` is None where the topic is missing."""

    topic: Topic
    setting: str
    wanted: str
    found: str | None


@dataclass(frozen=True)
class Layout:
    """How a topic lies on the brokers: its partitions, and the copies of the one that has the fewest."""

    partitions: int
    copies: int


def settings_of(topic: Topic, copies: int) -> dict[str, str]:
    """The settings that the topic is to have, with so many copies of each record."""
    return topic.config() | {IN_SYNC: str(in_sync(copies))}


def differences_of(topic: Topic, copies: int, found: Layout, settings: Mapping[str, str]) -> Iterator[Difference]:
    """What is not as it should be in a topic that is there. More partitions or copies are no difference."""
    if found.partitions < topic.partitions:
        yield Difference(topic, PARTITIONS, str(topic.partitions), str(found.partitions))
    if found.copies < copies:
        yield Difference(topic, COPIES, str(copies), str(found.copies))
    # Of the copies that there are: with more of them in sync than there are, nothing could be written.
    for name, wanted in settings_of(topic, found.copies).items():
        value = settings.get(name, "")
        if not (_is_strict_enough(wanted, value, found.copies) if name == IN_SYNC else value == wanted):
            yield Difference(topic, name, wanted, value)


def _is_strict_enough(wanted: str, found: str, copies: int) -> bool:
    return found.isdecimal() and int(wanted) <= int(found) <= max(copies, int(wanted))
