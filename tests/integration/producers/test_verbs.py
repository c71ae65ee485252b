"""The verbs of the command line against a real Kafka and Postgres, called in this process."""

import io
import json
import secrets
import sys
from collections.abc import Callable

import pytest

from producers import Headrace
from producers.cli.exits import Exit
from runtime.database import Database, outcomes
from runtime.database.migrate import upgrade
from schemas.events import State
from schemas.requests import GenerateRequest
from tests.integration.database.rows import admission, leased, settlement, tuned
from tests.integration.producers.conftest import Call
from tests.integration.producers.stub import StubPlatform

PROMPT = GenerateRequest(model="m", prompt="p")


@pytest.fixture
def database(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Database:
    opened = Database(database_url)
    upgrade(opened)
    opened.close()
    monkeypatch.setenv("HEADRACE_DATABASE", database_url)
    return opened


def new_id() -> str:
    return f"mine-{secrets.token_hex(8)}"


def test_submit_prints_the_id_alone(headrace: Call) -> None:
    said = headrace("submit", "generate", "--model", "m", "--prompt", "p")

    assert said.status == Exit.OK
    assert said.out.startswith("generate-")
    assert len(said.out.split()) == 1
    assert said.err == ""


@pytest.mark.parametrize(("form", "read"), [("json", json.loads), ("name", lambda text: {"id": text.strip()})])
def test_submit_tells_programs_the_id(headrace: Call, form: str, read: Callable[[str], dict[str, str]]) -> None:
    job_id = new_id()
    said = headrace("submit", "finetune", "--model", "m", "--dataset", "d", "--id", job_id, "-o", form)

    assert read(said.out) == {"id": job_id}


def test_submit_takes_a_whole_request_from_stdin(headrace: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = new_id()
    body = json.dumps({"id": job_id, "tenant": "acme", "model": "m", "prompt": "p"}).encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(body)))

    assert headrace("submit", "generate", "--file", "-").out.strip() == job_id


def test_submit_with_wait_prints_the_result(headrace: Call, platform: StubPlatform) -> None:
    job_id = new_id()
    platform.succeed(job_id)
    said = headrace("submit", "generate", "--model", "m", "--prompt", "p", "--id", job_id, "--wait", "-o", "json")

    assert said.status == Exit.OK
    assert json.loads(said.out)["result"]["choices"][0]["text"] == "2026-05-01"
    assert said.err.strip() == job_id


@pytest.mark.parametrize("option", ["--wait", "--watch"])
def test_a_conflicting_request_does_not_get_the_first_ones_answer(
    headrace: Call, platform: StubPlatform, option: str
) -> None:
    job_id = new_id()
    platform.state(job_id, State.SUCCEEDED)
    platform.succeed(job_id, request="0" * 64)
    said = headrace("submit", "generate", "--model", "m", "--prompt", "p", "--id", job_id, option)

    assert said.status == Exit.USAGE
    assert "2026-05-01" not in said.out
    assert "id_conflict" in said.err
    assert headrace("results", job_id).status == Exit.OK


def test_submit_with_watch_ends_as_the_job_does(headrace: Call, platform: StubPlatform) -> None:
    job_id = new_id()
    platform.state(job_id, State.QUEUED)
    platform.fail(job_id, message="no model m")
    said = headrace("submit", "generate", "--model", "m", "--prompt", "p", "--id", job_id, "--watch")

    assert said.status == Exit.FAILED
    assert "queued on worker-1" in said.out
    assert f"{job_id}  failed" in said.out
    assert "model_not_found: no model m" in said.err


def test_waiting_too_long_ends_with_124(headrace: Call) -> None:
    said = headrace("submit", "generate", "--model", "m", "--prompt", "p", "--wait", "--timeout", "0.2")

    assert said.status == Exit.TIMED_OUT
    assert "no result after 0.2 s" in said.err


@pytest.mark.parametrize("verb", ["status", "watch", "results"])
def test_an_unknown_job_is_not_found(headrace: Call, verb: str) -> None:
    said = headrace(verb, new_id())

    assert said.status == Exit.NOT_FOUND
    assert said.out == ""
    assert "job_not_found" in said.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("submit", "generate", "--model", "m", "--prompt", "p"),
        ("topics",),
    ],
)
def test_a_kafka_that_is_away_ends_with_4(headrace: Call, arguments: tuple[str, ...]) -> None:
    said = headrace(*arguments, "--kafka", "127.0.0.1:1")

    assert said.status == Exit.UNREACHABLE
    assert "Kafka at 127.0.0.1:1 is not reachable" in said.err


def test_status_is_read_from_the_topic_without_a_database(headrace: Call, platform: StubPlatform) -> None:
    job_id = new_id()
    platform.state(job_id, State.QUEUED, State.RUNNING)

    assert json.loads(headrace("status", job_id, "-o", "json").out)["state"] == "running"
    assert job_id in headrace("status", job_id).out
    assert headrace("status").status == Exit.USAGE


def test_status_lists_the_last_jobs_of_the_database(headrace: Call, database: Database) -> None:
    job_ids = [new_id(), new_id()]
    with database.begin() as connection:
        leased(connection, *(admission(job_id) for job_id in job_ids))
    database.close()

    listed = headrace("status", "-o", "name").out.split()
    assert set(job_ids) <= set(listed)
    assert headrace("status", "--last", "1", "-o", "json").out.count('"job_id"') == 1
    assert headrace("status", "--tenant", "nobody", "-o", "name").out == ""


def test_watch_writes_one_event_a_line_for_programs(headrace: Call, platform: StubPlatform) -> None:
    job_id = new_id()
    platform.state(job_id, State.QUEUED)
    platform.progress(job_id, 1, 2)
    platform.succeed(job_id)
    said = headrace("watch", job_id, "-o", "json")
    events = [json.loads(line) for line in said.out.splitlines()]

    assert said.status == Exit.OK
    assert [event.get("state") or event.get("done") or event.get("status") for event in events] == [
        "queued", 1, 2, "succeeded",
    ]  # fmt: skip


def test_results_of_a_job_that_has_not_ended_end_with_124(headrace: Call, platform: StubPlatform) -> None:
    job_id = new_id()
    platform.state(job_id, State.RUNNING)

    assert headrace("results", job_id).status == Exit.TIMED_OUT
    assert headrace("results", job_id, "--timeout", "0.2").status == Exit.TIMED_OUT


def test_results_that_are_kept_no_longer_end_with_3(headrace: Call, platform: StubPlatform) -> None:
    job_id = new_id()
    platform.state(job_id, State.SUCCEEDED)
    said = headrace("results", job_id)

    assert (said.status, said.out) == (Exit.NOT_FOUND, "")
    assert "result_gone" in said.err
    assert "--database" in said.err


def test_results_tell_the_tuned_models_name(headrace: Call, database: Database) -> None:
    job_id = new_id()
    with database.begin() as connection:
        (job,) = leased(connection, admission(job_id))
        outcomes.settle(connection, [settlement(job, tuned("ft:example-base:dates:89abcdef"))])
    database.close()

    assert headrace("results", job_id, "-o", "name").out.strip() == "ft:example-base:dates:89abcdef"
    assert "ft:example-base:dates:89abcdef" in headrace("results", job_id, "-o", "yaml").out


def test_results_of_a_failed_job_end_with_1(headrace: Call, platform: StubPlatform) -> None:
    job_id = new_id()
    platform.state(job_id, State.FAILED)
    platform.fail(job_id)
    said = headrace("results", job_id)

    assert said.status == Exit.FAILED
    assert "model_not_found" in said.err


def test_topics_are_as_the_contract_says(headrace: Call) -> None:
    assert headrace("topics", "create").status == Exit.OK
    said = headrace("topics", "-o", "json")

    assert (said.status, json.loads(said.out)) == (Exit.OK, [])


def test_two_tenants_may_use_one_id(headrace: Call, platform: StubPlatform, topics_created: str) -> None:
    job_id = new_id()
    with Headrace.connect(topics_created, tenant="acme") as client:
        client.submit(GenerateRequest(model="m", prompt="p", id=job_id))
    platform.state(job_id, State.QUEUED)
    platform.state(job_id, State.RUNNING, tenant="acme")

    assert json.loads(headrace("status", job_id, "-o", "json").out)["state"] == "queued"
    assert json.loads(headrace("status", job_id, "--tenant", "acme", "-o", "json").out)["state"] == "running"
