"""What a transactional log commits with a batch, without a server."""

import pytest

from runtime.kafka_transactions import METADATA_BYTES, TransactionalLog, _read


@pytest.mark.parametrize(("partitions", "told"), [(0, 0), (3, 3), (300, 300), (1_000, 0)])
def test_a_mark_tells_the_ends_of_as_many_partitions_as_kafka_keeps(partitions: int, told: int) -> None:
    """Of more it tells none, and time says where to look."""
    log = TransactionalLog("nowhere:1", "log", "topic")
    log._ends = dict.fromkeys(range(partitions), 1_234_567_890)
    mark = log._mark()
    log.close()
    assert len(mark.encode()) <= METADATA_BYTES
    read = _read(mark)
    assert read is not None
    assert len(read.ends) == told


@pytest.mark.parametrize("metadata", [None, "", "junk", "[]", '{"database":"x/5","position":{"transaction":7}}'])
def test_a_mark_that_is_none_tells_nothing(metadata: str | None) -> None:
    assert _read(metadata) is None
