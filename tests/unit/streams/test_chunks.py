"""How records become chunks."""

from hypothesis import given, settings
from hypothesis import strategies as st

from streams.chunks import CHUNK_BYTES, CHUNK_RECORDS, chunks
from tests.unit.streams.records import FakeRecord

SIZES = st.sampled_from([0, 1, 700, CHUNK_BYTES // 2, CHUNK_BYTES, CHUNK_BYTES + 1])
VALUES = {size: b"x" * size for size in (0, 1, 700, CHUNK_BYTES // 2, CHUNK_BYTES, CHUNK_BYTES + 1)}


@settings(deadline=None)
@given(st.lists(st.none() | SIZES, max_size=20), st.integers(0, 2 * CHUNK_RECORDS))
def test_chunks_keep_every_record_in_order_and_both_limits(sizes: list[int | None], small: int) -> None:
    values = [None if size is None else VALUES[size] for size in sizes] + [b"y"] * small
    records = [FakeRecord(value, offset=offset) for offset, value in enumerate(values)]
    cut = list(chunks(records))
    assert [record for chunk in cut for record in chunk] == records
    for chunk in cut:
        size_bytes = sum(len(record.value or b"") for record in chunk)
        assert 1 <= len(chunk) <= CHUNK_RECORDS
        assert size_bytes <= CHUNK_BYTES or len(chunk) == 1


def test_no_records_are_no_chunk() -> None:
    assert list(chunks([])) == []
