"""How much of a partition an agent may have, and up to where it is done."""

from types import SimpleNamespace
from typing import Any

import pytest

from streams.chunks import CHUNK_BYTES, CHUNK_RECORDS
from streams.in_flight import MOST_BYTES, MOST_RECORDS, InFlight


def message() -> Any:
    return SimpleNamespace(acked=False)


def chunk(first: int, records: int = 1, record_bytes: int = 10) -> list[Any]:
    return [SimpleNamespace(offset=first + number, value=bytes(record_bytes)) for number in range(records)]


def test_single_records_count_as_what_they_are_and_not_as_chunks() -> None:
    in_flight = InFlight()
    for offset in range(MOST_RECORDS):
        assert not in_flight.full
        in_flight.add(message(), chunk(offset))
    assert in_flight.full


@pytest.mark.parametrize(("records", "record_bytes", "chunks"), [(CHUNK_RECORDS, 10, 4), (2, CHUNK_BYTES // 2, 4)])
def test_four_full_chunks_are_enough(records: int, record_bytes: int, chunks: int) -> None:
    in_flight, messages = InFlight(), [message() for _ in range(chunks)]
    for number, sent in enumerate(messages):
        assert not in_flight.full
        in_flight.add(sent, chunk(number * records, records, record_bytes))
    assert in_flight.full
    messages[0].acked = True
    assert not in_flight.full


def test_what_follows_a_chunk_that_waits_is_not_durable() -> None:
    in_flight, messages = InFlight(), [message() for _ in range(3)]
    for number, sent in enumerate(messages):
        in_flight.add(sent, chunk(10 * number, 10))
    in_flight.settle()
    assert in_flight.durable is None
    messages[1].acked = True
    assert len(in_flight) == 3
    assert in_flight.durable is None
    messages[0].acked = True
    assert len(in_flight) == 1
    assert in_flight.durable == 20


def test_a_chunk_is_taken_back_if_nobody_has_acknowledged_it_and_none_follows() -> None:
    in_flight, first, last = InFlight(), message(), message()
    in_flight.add(first, chunk(0, MOST_RECORDS))
    in_flight.take_back(last)
    assert len(in_flight) == 1
    in_flight.add(last, chunk(MOST_RECORDS, 1, MOST_BYTES))
    in_flight.take_back(first)
    assert len(in_flight) == 2
    last.acked = True
    in_flight.take_back(last)
    assert len(in_flight) == 2
    last.acked = False
    in_flight.take_back(last)
    in_flight.take_back(first)
    assert len(in_flight) == 0
    assert not in_flight.full
    assert in_flight.durable is None
