"""One request through every topic and every table, its trace id at each hop."""

import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from sqlalchemy import MetaData, Table, select, text

from producers import Headrace
from runtime.database import Database, tables
from runtime.database.outbox import result_id
from schemas import topics
from schemas.codec import new_traceparent, trace_id_of
from schemas.events import State
from schemas.requests import Dataset, FineTuneRequest, Hyperparameters
from schemas.requests import Record as Example
from schemas.results import FineTuneResult
from schemas.topics import Kind
from tests.acceptance.processes import Platform
from tests.acceptance.topics import Record, Tail, tails
from tests.integration.streams.observing import until

REQUESTS = topics.REQUESTS[Kind.GENERATE].name
HOPS = (REQUESTS, topics.WORK.name, topics.PROGRESS.name, topics.STATUS.name, topics.RESULTS.name)
WAIT_S = 60.0
COPY_OUTBOX = (
    "CREATE TABLE outbox_copy (LIKE outbox)",
    """
    CREATE FUNCTION copy_outbox() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN INSERT INTO outbox_copy VALUES (NEW.*); RETURN NULL; END $$
    """,
    "CREATE TRIGGER copy_outbox AFTER INSERT ON outbox FOR EACH ROW EXECUTE FUNCTION copy_outbox()",
)


@pytest.fixture
def database(platform: Platform) -> Iterator[Database]:
    database = Database(platform.servers["HEADRACE_DATABASE"])
    yield database
    database.close()


def kcat(platform: Platform, body: object, *headers: str, key: str | None = None) -> None:
    """Publish one request by hand, as the README shows."""
    flags = [flag for header in headers for flag in ("-H", header)] + (["-k", key] if key else [])
    command = ["kcat", "-P", "-b", platform.servers["HEADRACE_KAFKA"], "-t", REQUESTS, *flags]
    subprocess.run(command, input=json.dumps(body).encode(), check=True, timeout=30)


def events(tail: Tail, job_id: str) -> list[dict[str, str]]:
    return [json.loads(record.value or b"") for record in tail.of(job_id)]


def trace_of(record: Record) -> str | None:
    return trace_id_of(record.headers["traceparent"].decode())


def test_one_request_leaves_its_trace_at_every_hop(platform: Platform, database: Database) -> None:
    traceparent = new_traceparent()
    job_id = "one-request"
    body = {"id": job_id, "model": "example-base", "prompt": "abc", "max_tokens": 8, "stream": True}
    with tails(platform.servers["HEADRACE_KAFKA"], *HOPS) as tail:
        with copied_outbox(database) as copy:
            kcat(platform, body, "Content-Type=application/json", f"traceparent={traceparent}", key=job_id)
            (announced,) = until(lambda: rows_of(database, copy, job_id), bool)
        results, status = tail[topics.RESULTS.name], tail[topics.STATUS.name]
        results.until(lambda _: bool(results.of(job_id)))
        status.until(lambda _: any(event["state"] == State.SUCCEEDED for event in events(status, job_id)))
        for name in HOPS:
            tail[name].until(lambda _, name=name: bool(tail[name].of(job_id)))  # type: ignore[misc]
            assert {trace_of(record) for record in tail[name].of(job_id)} == {trace_id_of(traceparent)}, name
        states = [event["state"] for event in events(status, job_id)]
        (result,) = results.of(job_id)

    assert states == [State.QUEUED, State.SCHEDULED, State.LOADING, State.RUNNING, State.SUCCEEDED]
    assert result.headers["ce_id"].decode() == result_id("default", job_id)
    rows = {table.name: rows_of(database, table, job_id) for table in (tables.jobs, tables.results, tables.usage)}
    assert [len(found) for found in rows.values()] == [1, 1, 1]
    (job,) = rows["jobs"]
    for row in (job, announced):
        assert trace_id_of(str(row["traceparent"])) == trace_id_of(traceparent)
    assert announced["event"] == rows["results"][0]["event"]
    assert (job["state"], job["attempt"]) == ("succeeded", 1)
    assert rows["results"][0]["event"] == json.loads(result.value or b"")


def test_a_fine_tune_leaves_its_adapter_with_what_it_was_made_from(client: Headrace, database: Database) -> None:
    dataset = Dataset(records=(Example("7->", "007"),))
    job_id = client.submit(
        FineTuneRequest(model="example-base", dataset=dataset, hyperparameters=Hyperparameters(max_steps=1))
    )
    event = client.result(job_id, WAIT_S)
    result, lineage = event.result, event.lineage
    assert isinstance(result, FineTuneResult)
    (adapter,) = rows_of(database, tables.adapters, job_id)
    (job,) = rows_of(database, tables.jobs, job_id)
    assert (adapter["id"], adapter["base"], adapter["method"]) == (result.model, "example-base", "lora")
    assert (adapter["artifact_sha256"], adapter["request_sha256"]) == (result.artifact_sha256, job["request_sha256"])
    assert (adapter["dataset_sha256"], adapter["code"]) == (lineage.dataset_sha256, lineage.code)


def test_the_outbox_is_empty_once_results_are_delivered(
    platform: Platform, client: Headrace, database: Database
) -> None:
    kcat(platform, {"id": "outbox", "model": "example-base", "prompt": "abc", "max_tokens": 1})
    client.result("outbox", WAIT_S)
    deadline = time.monotonic() + WAIT_S
    while rows_of(database, tables.outbox, "outbox"):
        assert time.monotonic() < deadline


def test_a_request_by_hand_without_id_key_or_headers_runs(platform: Platform) -> None:
    with tails(platform.servers["HEADRACE_KAFKA"], REQUESTS, topics.RESULTS.name) as tail:
        kcat(platform, {"model": "example-base", "prompt": "abc", "max_tokens": 4})
        (request,) = tail[REQUESTS].until(lambda records: bool(records))
        job_id = f"{REQUESTS}-{request.partition}-{request.offset}"
        results = tail[topics.RESULTS.name]
        results.until(lambda _: bool(results.of(job_id)))
        (event,) = events(results, job_id)
    assert (request.key, request.headers) == (None, {})
    assert event["status"] == "succeeded"


def test_every_process_is_heard_on_the_metrics_page(platform: Platform) -> None:
    sources = sum(process.is_running for process in platform.dispatchers + platform.workers)

    def all_heard(_: list[Record]) -> bool:
        return get(platform.metrics_url).count("\nheadrace_process_cpu_seconds_total{") >= sources

    with tails(platform.servers["HEADRACE_KAFKA"], topics.METRICS.name) as tail:
        tail[topics.METRICS.name].until(all_heard, WAIT_S)
    page = get(platform.metrics_url)
    assert "\nheadrace_intake_requests_total{" in page
    assert "\nheadrace_worker_jobs_total{" in page
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed; it comes with Debian's package prometheus")
    checked = subprocess.run([promtool, "check", "metrics"], input=page.encode(), capture_output=True, check=False)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


@contextmanager
def copied_outbox(database: Database) -> Iterator[Table]:
    """A table of all rows that come into the outbox, which they leave at once."""
    with database.begin() as connection:
        for statement in COPY_OUTBOX:
            connection.execute(text(statement))
    try:
        yield tables.outbox.to_metadata(MetaData(), name="outbox_copy")
    finally:
        with database.begin() as connection:
            connection.execute(text("DROP FUNCTION copy_outbox CASCADE"))
            connection.execute(text("DROP TABLE outbox_copy"))


def rows_of(database: Database, table: Table, job_id: str) -> list[dict[str, object]]:
    column = table.c.id if table is tables.jobs else table.c.job_id
    with database.begin() as connection:
        return [dict(row) for row in connection.execute(select(table).where(column == job_id)).mappings()]


def get(url: str) -> str:
    """The page, or nothing while its server starts."""
    with suppress(OSError), urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310  # our own http address
        return str(answer.read().decode())
    return ""
