"""The line that mends topics."""

import pytest

from producers.cli.topics import REASSIGN, repair
from runtime.topic_differences import Difference
from schemas.topics import RESULTS, WORK

MISSING = Difference(RESULTS, "topic", "present", None)
FEW_PARTITIONS = Difference(WORK, "partitions", "64", "3")
FEW_COPIES = Difference(RESULTS, "replication.factor", "3", "1")


@pytest.mark.parametrize(
    ("found", "line"),
    [
        ([MISSING], "headrace topics create"),
        ([MISSING, FEW_PARTITIONS], "headrace topics mend"),
        ([FEW_PARTITIONS, FEW_COPIES], "headrace topics mend"),
        ([FEW_COPIES], REASSIGN),
    ],
)
def test_the_repair_does_what_the_differences_need(found: list[Difference], line: str) -> None:
    assert repair(found) == line
