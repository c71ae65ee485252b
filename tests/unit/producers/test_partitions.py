"""The partitioner, against the vectors of Kafka's own test (UtilsTest.testMurmur2)."""

import pytest

from producers.partitions import murmur2, partition_of

VECTORS = {
    "21": -973932308,
    "foobar": -790332482,
    "a-little-bit-long-string": -985981536,
    "a-little-bit-longer-string": -1486304829,
    "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    "abc": 479470107,
}


@pytest.mark.parametrize(("key", "signed"), VECTORS.items())
def test_the_hash_is_that_of_the_java_client(key: str, signed: int) -> None:
    assert murmur2(key.encode()) == signed % 2**32


def test_a_negative_hash_is_made_positive_by_dropping_its_sign() -> None:
    assert partition_of(b"21", 7) == (-973932308 & 0x7FFFFFFF) % 7
