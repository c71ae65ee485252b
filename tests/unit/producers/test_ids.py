"""Job ids: their form, their order, and the time that they tell."""

import re
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from producers.ids import new_job_id, time_of
from schemas.requests import JobId
from schemas.topics import Kind


@pytest.mark.parametrize("kind", Kind)
def test_an_id_begins_with_its_kind_and_is_one_that_the_contract_takes(kind: Kind) -> None:
    job_id = new_job_id(kind)

    assert re.fullmatch(rf"{kind}-[0-9a-hjkmnp-tv-z]{{26}}", job_id)
    assert msgspec.convert(job_id, JobId) == job_id


def test_an_id_tells_when_it_was_made() -> None:
    before = datetime.now(UTC) - timedelta(milliseconds=1)
    made = time_of(new_job_id(Kind.GENERATE))

    assert made is not None
    assert before <= made <= datetime.now(UTC)


def test_a_thousand_ids_are_a_thousand() -> None:
    assert len({new_job_id(Kind.GENERATE) for _ in range(1_000)}) == 1_000


def test_the_time_is_that_of_the_ulid_specification() -> None:
    # Its example, 01ARZ3NDEKTSV4RRFFQ69G5FAV, encodes 1469922850259 ms.
    assert time_of("generate-01arz3ndektsv4rrffq69g5fav") == datetime.fromtimestamp(1_469_922_850.259, UTC)


@pytest.mark.parametrize(
    "job_id",
    [
        "my-job",
        "generate-",
        "generate-01arz3ndektsv4rrffq69g5fa",
        "generate-01arz3ndektsv4rrffq69g5fav0",
        "generate-01ARZ3NDEKTSV4RRFFQ69G5FAV",
        "train-01arz3ndektsv4rrffq69g5fav",
        "generate-81arz3ndektsv4rrffq69g5fav",
        # Its time is beyond the year 9999.
        "generate-7zzzzzzzzzzzzzzzzzzzzzzzzz",
    ],
)
def test_an_id_of_another_maker_tells_no_time(job_id: str) -> None:
    assert time_of(job_id) is None
