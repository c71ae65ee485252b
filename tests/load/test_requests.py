"""Many clients at once: each gets its results, each job runs once, and nothing grows."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Final
from uuid import uuid4

import psycopg2
import pytest
from sqlalchemy import make_url

from benchmarks.records import MODELS
from producers import Headrace
from schemas.requests import GenerateRequest
from schemas.results import ResultEvent, Terminal
from tests.load.conftest import Platform

PATIENCE_S: Final = 120.0
WARM_UP_JOBS: Final = 3_000
STRESS_JOBS: Final = 10_000
GROWTH_BYTES: Final = 20 * 1024**2


@pytest.mark.parametrize(("threads", "requests"), [(20, 5), (100, 50)])
def test_every_thread_gets_the_results_of_its_requests(
    platform: Platform, client: Headrace, threads: int, requests: int
) -> None:
    run = uuid4().hex[:8]

    def ask(thread: int) -> list[ResultEvent]:
        ids = client.submit_many(request(f"{run}-{thread}-{number}") for number in range(requests))
        return [client.result(job_id, PATIENCE_S) for job_id in ids]

    with ThreadPoolExecutor(threads) as pool:
        found = [result for results in pool.map(ask, range(threads)) for result in results]
    assert {result.status for result in found} == {Terminal.SUCCEEDED}
    expected = [f"{run}-{thread}-{number}" for thread in range(threads) for number in range(requests)]
    assert [result.job_id for result in found] == expected
    assert attempts(platform, run) == [1] * (threads * requests)


def test_sustained_load_fails_no_job_and_nothing_grows(platform: Platform, client: Headrace) -> None:
    finish(client, WARM_UP_JOBS)
    before = platform.memory_bytes()
    results = finish(client, STRESS_JOBS)
    succeeded = sum(result.status is Terminal.SUCCEEDED for result in results)
    assert succeeded >= 0.999 * STRESS_JOBS
    grown = {name: size - before[name] for name, size in platform.memory_bytes().items()}
    assert max(grown.values()) < GROWTH_BYTES, grown


def request(job_id: str) -> GenerateRequest:
    """A job that does nothing."""
    return GenerateRequest(id=job_id, model=MODELS[0], prompt="No-op.", max_tokens=1)


def finish(client: Headrace, jobs: int) -> list[ResultEvent]:
    """Have so many jobs done, at most a thousand at once; their results."""
    run, results = uuid4().hex[:8], []
    for first in range(0, jobs, 1_000):
        ids = client.submit_many(request(f"{run}-{number}") for number in range(first, first + 1_000))
        results += [client.result(job_id, PATIENCE_S) for job_id in ids]
    return results


def attempts(platform: Platform, run: str) -> Sequence[int]:
    """The attempt in which each of the jobs has succeeded, as Postgres has it."""
    address = make_url(platform.servers["HEADRACE_DATABASE"]).set(drivername="postgresql")
    with (
        closing(psycopg2.connect(address.render_as_string(hide_password=False))) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute("SELECT attempt FROM jobs WHERE id LIKE %s AND state = 'succeeded'", (f"{run}-%",))
        return [attempt for (attempt,) in cursor]
