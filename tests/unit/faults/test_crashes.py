"""The points of a crash are known by statements that are really sent."""

import re

import pytest

from tests.acceptance.faults.crashes import ADMITS, FORGETS, LEASES, SETTLES
from tests.unit.faults.statements import statements


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        (SETTLES, {"SETTLE_JOBS"}),
        (LEASES, {"LEASE_JOBS", "INSERT_JOBS"}),
        (ADMITS, {"INSERT_JOBS"}),
        (FORGETS, {"DELETE_ROWS"}),
    ],
)
def test_a_point_is_known_by_its_statements_and_by_no_other(pattern: re.Pattern[str], names: set[str]) -> None:
    assert {name for name, statement in statements().items() if pattern.search(statement)} == names
