"""What the reconciler takes for missed: records with neither a row nor their dead letter."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from runtime.database import Database, reconciling
from runtime.database.admissions import Admission, Admitted
from runtime.database.reconciling import Place
from runtime.database.thread import DatabaseThread
from runtime.monitoring import Metrics
from schemas.topics import DEAD_LETTERS, REQUESTS, Kind
from streams.chunks import Chunk, Record
from streams.instruments import Instruments
from streams.reconciler import Reconciler
from tests.unit.streams.records import FakeRecord

TOPIC = REQUESTS[Kind.GENERATE].name
LETTERS = DEAD_LETTERS[Kind.GENERATE].name
GOOD = b'{"id": "%d", "model": "m", "prompt": "p"}'


class Rows(DatabaseThread):
    """Knows the ids that it was given, and keeps the positions."""

    def __init__(self, **known: Admitted) -> None:
        super().__init__(cast(Database, None))
        self.known = known
        self.positions: dict[Place, int] = {}

    async def run(self, work: Callable[..., Any], *arguments: Any) -> Any:  # type: ignore[override]
        if work is reconciling.positions:
            return dict(self.positions)
        if work is reconciling.save_positions:
            self.positions.update(arguments[0])
            return None
        admissions: Sequence[Admission] = arguments[0]
        return [self.known.get(f"id{row.id}") for row in admissions]


@dataclass
class Topics:
    """Records by topic, all in partition 0."""

    by_topic: dict[str, list[FakeRecord]] = field(default_factory=dict)
    read: list[tuple[str, int, int]] = field(default_factory=list)

    def add(self, topic: str, value: bytes | None, **headers: bytes) -> None:
        records = self.by_topic.setdefault(topic, [])
        records.append(
            FakeRecord(
                value,
                tuple((name.replace("_", "."), text) for name, text in headers.items()),
                offset=len(records),
                topic=topic,
                partition=0,
            )
        )

    async def ends(self) -> Mapping[Place, int]:
        return {(topic.name, 0): len(self.by_topic.get(topic.name, [])) for topic in _topics()}

    async def committed(self) -> Mapping[Place, int]:
        return {}

    async def records(self, place: Place, start: int, end: int) -> AsyncIterator[Sequence[Record]]:
        self.read.append((place[0], start, end))
        if records := self.by_topic.get(place[0], [])[start:end]:
            yield records


def _topics() -> list[Any]:
    return [*DEAD_LETTERS.values(), *REQUESTS.values()]


@dataclass
class Comparison:
    """A reconciler, and what it has given to intake."""

    rows: Rows
    topics: Topics = field(default_factory=Topics)
    admitted: list[int] = field(default_factory=list)
    #: Up to where the group has read the requests; None: all.
    read: int | None = None

    def run(self) -> int:
        async def admit(kind: Kind, chunk: Chunk) -> None:
            assert kind is Kind.GENERATE
            self.admitted += [record.offset for record in chunk.records]

        async def compare() -> int:
            reconciler = Reconciler(self.rows, self.topics, admit, Instruments(Metrics("test")))
            ends = await self.topics.ends()
            return await reconciler.compare(ends, ends if self.read is None else {(TOPIC, 0): self.read})

        return asyncio.run(compare())


def test_a_request_without_a_row_is_admitted_and_the_others_are_left_alone() -> None:
    comparison = Comparison(Rows(id0=Admitted.REREAD, id2=Admitted.REPEATED))
    for number in range(3):
        comparison.topics.add(TOPIC, GOOD % number)
    assert comparison.run() == 1
    assert comparison.admitted == [1]


def test_a_malformed_request_without_its_dead_letter_is_admitted_again() -> None:
    comparison = Comparison(Rows())
    comparison.topics.add(TOPIC, b"{")
    comparison.topics.add(TOPIC, b"[")
    comparison.topics.add(LETTERS, b"{", dlq_partition=b"0", dlq_offset=b"0")
    comparison.run()
    assert comparison.admitted == [1]


def test_a_conflict_and_a_refusal_need_their_dead_letters_too() -> None:
    comparison = Comparison(Rows(id0=Admitted.CONFLICT, id1=Admitted.REFUSED))
    comparison.topics.add(TOPIC, GOOD % 0)
    comparison.topics.add(TOPIC, b'{"id": "1", "n": "x"}')
    comparison.run()
    assert comparison.admitted == [0, 1]


def test_the_next_round_begins_where_the_last_one_ended() -> None:
    comparison = Comparison(Rows(id0=Admitted.REREAD))
    comparison.topics.add(TOPIC, GOOD % 0)
    comparison.run()
    comparison.topics.read.clear()
    comparison.topics.add(TOPIC, GOOD % 1)
    assert comparison.run() == 1
    assert (TOPIC, 1, 2) in comparison.topics.read


def test_a_strange_dead_letter_is_nobodys() -> None:
    comparison = Comparison(Rows())
    comparison.topics.add(TOPIC, b"{")
    comparison.topics.add(LETTERS, b"{", dlq_partition=b"zero")
    comparison.run()
    assert comparison.admitted == [0]


def test_what_the_group_has_not_read_yet_is_admitted_and_was_not_missed() -> None:
    comparison = Comparison(Rows(), read=1)
    for number in range(3):
        comparison.topics.add(TOPIC, GOOD % number)
    assert comparison.run() == 1
    assert comparison.admitted == [0, 1, 2]
