"""A planted bug changes what it is said to change: a statement that was reworded would make it harmless."""

import asyncio
from typing import Any, cast

import pytest

from runtime.settings import Settings
from schemas.requests import GenerateRequest
from schemas.results import Choice, GenerateResult
from tests.acceptance.faults.zoo import READS_OUTBOX, TRIALS, Bug, faulty, rewritten
from tests.unit.faults.statements import statements
from workers.context import JobContext
from workers.job import Handlers
from workers.leases import Leases

STATEMENTS = statements()
#: Bugs of Python, which change no statement.
OTHERS = {Bug.EARLY_DELETE, Bug.EARLY_PUBLISH, Bug.MIXED, Bug.DEAF}


@pytest.mark.parametrize(
    ("bug", "changes"),
    [
        (Bug.NO_FENCE, {"SETTLE_JOBS", "RENEW_LEASES", "GIVE_BACK"}),
        (Bug.LOCAL_CLOCK, {"EXPIRED_LEASES", "REQUEUE_JOBS"}),
        (Bug.NO_TENANT, {"INSERT_JOBS", "SELECT_JOBS"}),
        (Bug.NO_COUNT, {"EXPIRED_LEASES", "REQUEUE_JOBS"}),
        (Bug.GIVES_UP, {"EXPIRED_LEASES"}),
    ],
)
def test_a_bug_changes_its_statements(bug: Bug, changes: set[str]) -> None:
    assert changes <= {name for name, statement in STATEMENTS.items() if rewritten(bug, statement) != statement}


def test_who_has_no_fence_may_write_under_any_epoch_and_is_told_so() -> None:
    for name in ("SETTLE_JOBS", "RENEW_LEASES"):
        statement = rewritten(Bug.NO_FENCE, STATEMENTS[name])
        assert "jobs.epoch" not in statement
        assert "'queued'" in statement


def test_no_attempt_is_counted_where_none_is() -> None:
    assert "+ 1" not in rewritten(Bug.NO_COUNT, STATEMENTS["REQUEUE_JOBS"])


def test_ids_without_tenants_are_compared_when_they_are_written_and_when_they_are_read() -> None:
    assert "NOT EXISTS" in rewritten(Bug.NO_TENANT, STATEMENTS["INSERT_JOBS"])
    assert "USING (tenant, id)" not in rewritten(Bug.NO_TENANT, STATEMENTS["SELECT_JOBS"])


def test_the_relay_reads_what_is_dropped_too_early() -> None:
    assert READS_OUTBOX.search(STATEMENTS["SELECT_WAITING"])


def test_a_deaf_worker_lacks_what_a_worker_hears_with() -> None:
    assert callable(Leases.stop)


def test_a_job_gets_the_result_of_the_one_before() -> None:
    async def generate(request: GenerateRequest, _ctx: JobContext) -> GenerateResult:
        return GenerateResult(choices=(Choice(0, 0, request.prompt or "", 1, "stop"),))

    handlers = Handlers(generate, cast(Any, None), cast(Any, None))
    mixed = faulty(Bug.MIXED, handlers, Settings()).generate

    async def texts() -> list[str]:
        requests = [GenerateRequest(model="m", prompt=prompt) for prompt in ("one", "two", "three")]
        return [(await mixed(request, cast(JobContext, None))).choices[0].text for request in requests]

    assert asyncio.run(texts()) == ["one", "one", "two"]


def test_each_bug_has_a_trial_and_is_looked_at_here() -> None:
    assert {trial.bug for trial in TRIALS} == set(Bug)
    changing = {bug for bug in Bug if any(rewritten(bug, text) != text for text in STATEMENTS.values())}
    assert changing == set(Bug) - OTHERS
