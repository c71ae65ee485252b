"""How many jobs a worker takes beyond its slots."""

import pytest

from schemas.events import Slots
from schemas.topics import Kind
from workers.ahead import PATH_S, Ahead

SLOTS = Slots(generate=64, finetune=1, evaluate=1)


@pytest.mark.parametrize(
    ("seconds", "jobs"),
    [(0.0, 64), (PATH_S, 64), (2 * PATH_S, 32), (10 * PATH_S, 6), (60.0, 0)],
)
def test_a_worker_looks_ahead_by_what_begins_while_the_next_job_is_on_its_way(seconds: float, jobs: int) -> None:
    ahead = Ahead(SLOTS)
    ahead.ended(Kind.GENERATE, seconds)
    assert ahead.of(Kind.GENERATE) == jobs


def test_it_takes_no_more_than_its_slots_before_it_knows_how_long_jobs_take() -> None:
    ahead = Ahead(SLOTS)
    ahead.ended(Kind.GENERATE, 0.0)
    assert [ahead.of(kind) for kind in (Kind.FINETUNE, Kind.EVALUATE)] == [0, 0]


def test_one_long_job_among_short_ones_changes_little() -> None:
    ahead = Ahead(SLOTS)
    for _ in range(100):
        ahead.ended(Kind.GENERATE, PATH_S)
    ahead.ended(Kind.GENERATE, 2 * PATH_S)
    assert ahead.of(Kind.GENERATE) == 60
