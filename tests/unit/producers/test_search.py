"""Results that are looked for in Postgres, all that are asked for in one go."""

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime

import pytest

from producers.archive import Archive
from producers.claims import Claims
from producers.errors import ClientClosed
from producers.search import Searches
from producers.tail import ResultTail
from schemas.errors import ServerUnreachable
from schemas.results import ResultEvent, Terminal
from schemas.topics import Kind
from tests.unit.producers.test_tail import WAIT_S, Away


class Shelf(Archive):
    """Has every job's result; one can't be read."""

    def __init__(self) -> None:
        """Without a server."""

    def result(self, job_id: str) -> ResultEvent | None:
        if job_id == "damaged":
            raise ValueError(job_id)
        return ResultEvent(
            job_id=job_id,
            tenant="default",
            kind=Kind.GENERATE,
            status=Terminal.SUCCEEDED,
            attempt=1,
            finished_at=datetime.now(UTC),
        )


@pytest.fixture
def tail() -> Iterator[ResultTail]:
    away = Away(ServerUnreachable("Kafka", "127.0.0.1:1", "no answer"))
    with closing(ResultTail(away, "default", Claims())) as made:
        yield made


def test_one_result_that_cannot_be_read_spoils_no_other(tail: ResultTail) -> None:
    with closing(Searches(Away(RuntimeError()), Shelf(), tail)) as searches:
        waiting = {job_id: tail.result(job_id)[0] for job_id in ("first", "damaged", "last")}
        for job_id in waiting:
            searches.begin(job_id, ended=False)

        assert [waiting[job_id].result(WAIT_S).job_id for job_id in ("first", "last")] == ["first", "last"]
        with pytest.raises(ValueError, match="damaged"):
            waiting["damaged"].result(WAIT_S)


def test_nothing_is_looked_for_after_the_end(tail: ResultTail) -> None:
    searches = Searches(Away(RuntimeError()), Shelf(), tail)
    searches.close()
    with pytest.raises(ClientClosed):
        searches.begin("mine", ended=False)
