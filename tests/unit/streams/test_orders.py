"""How leases are cut into transactions."""

from streams.credits import Assignment
from streams.orders import BATCH_TOKENS, batches
from tests.unit.streams.records import job


def assigned(*costs: int) -> list[Assignment]:
    return [Assignment(job(str(index), cost=cost), "worker", 0, 0.0) for index, cost in enumerate(costs)]


def test_small_requests_share_a_transaction_and_large_ones_do_not() -> None:
    half = BATCH_TOKENS // 2
    cut = list(batches(assigned(1, half, half, 1, 3 * BATCH_TOKENS, 1)))
    assert [[item.job.cost for item in some] for some in cut] == [[1, half], [half, 1], [3 * BATCH_TOKENS], [1]]
    assert list(batches([])) == []
