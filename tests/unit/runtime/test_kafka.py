"""A publisher whose Kafka is away."""

from collections.abc import Iterator

import pytest

from runtime.kafka import BUFFERED_EVENTS, BufferFull, Publisher

BUFFERED_KB = 2_048


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    made = Publisher("127.0.0.1:1", "test", buffered_kb=BUFFERED_KB)
    yield made
    made.close(timeout_s=0)


@pytest.mark.parametrize(
    ("value", "count", "said"),
    [
        (None, BUFFERED_EVENTS, "200,000 events wait for it already, and a process holds 200,000 events at most"),
        (bytes(1024), BUFFERED_KB, "2,048 events wait for it already, and a process holds 2 MiB at most"),
    ],
)
def test_a_full_buffer_says_what_it_is_full_of(
    publisher: Publisher, value: bytes | None, count: int, said: str
) -> None:
    for _ in range(count):
        publisher.publish_raw("headrace.progress.v1", None, value, [])
    with pytest.raises(BufferFull, match=said):
        publisher.publish_raw("headrace.progress.v1", None, value, [])
