"""The doctor, with patients whose illness is known."""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from producers.cli import main
from producers.cli.doctor.workers import heartbeats
from producers.cli.exits import Exit
from runtime.database import Database
from runtime.database.migrate import upgrade
from runtime.kafka import Publisher
from runtime.kafka_version import kafka_version
from schemas.codec import new_traceparent
from schemas.errors import ServerUnreachable
from schemas.events import Heartbeat, Slots
from schemas.topics import WORKERS
from tests.servers import fresh_database

Examined = Mapping[str, Mapping[str, str]]


@pytest.fixture
def env(
    topics_created: str, stack_env: Mapping[str, str], database_url: str, monkeypatch: pytest.MonkeyPatch
) -> pytest.MonkeyPatch:
    """The environment of a stack whose processes do not run."""
    monkeypatch.setenv("HEADRACE_KAFKA", topics_created)
    monkeypatch.setenv("HEADRACE_REDIS", stack_env["HEADRACE_REDIS"])
    monkeypatch.setenv("HEADRACE_DATABASE", database_url)
    monkeypatch.setenv("HEADRACE_METRICS", "http://127.0.0.1:1")
    return monkeypatch


def examine(capsys: pytest.CaptureFixture[str]) -> tuple[int, Examined]:
    capsys.readouterr()
    status = main(["doctor", "-o", "json"])
    return status, {item["name"]: item for item in json.loads(capsys.readouterr().out)}


class Page(BaseHTTPRequestHandler):
    """A metrics page."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"headrace_jobs_total 1\n")

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def metrics_page() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Page)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def beat(kafka: str, worker_id: str, *, leaving: bool = False) -> None:
    publisher = Publisher(kafka, "stub", linger_ms=0)
    heartbeat = Heartbeat(
        worker_id=worker_id, host="h", partition=0, position=0, free=Slots(), version="0.1.0", leaving=leaving
    )
    publisher.publish(WORKERS, heartbeat, key=worker_id, event_id=worker_id, traceparent=new_traceparent(), partition=0)
    publisher.publish_raw(WORKERS.name, b"x", b"no heartbeat", [], partition=0)
    publisher.close()


def test_a_whole_stack_is_well(
    env: pytest.MonkeyPatch,
    topics_created: str,
    database_url: str,
    metrics_page: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    env.setenv("HEADRACE_METRICS", metrics_page)
    database = Database(database_url)
    upgrade(database)
    database.close()
    beat(topics_created, "worker-a")
    beat(topics_created, "worker-b")
    beat(topics_created, "worker-b", leaving=True)
    status, found = examine(capsys)

    assert {item["health"] for item in found.values()} == {"ok"}, found
    assert status == Exit.OK
    assert list(found) == ["kafka", "topics", "workers", "redis", "postgres", "schema", "advice", "dispatcher"]
    assert "statements" in found["advice"]["version"]
    assert found["kafka"]["version"].startswith("4.")
    assert found["redis"]["version"].split(".")[0].isdigit()
    assert found["postgres"]["version"].split(".")[0].isdigit()
    assert "worker-a (cpu)" in found["workers"]["address"]
    assert "worker-b" not in found["workers"]["address"]


@pytest.mark.parametrize("ahead", [timedelta(hours=1), -timedelta(hours=1)])
def test_workers_are_heard_of_whatever_our_clock_says(topics_created: str, ahead: timedelta) -> None:
    ended = threading.Event()

    def live() -> None:
        while not ended.wait(0.2):
            beat(topics_created, "worker-c")

    # It was heard of a moment ago, which only the broker's clock could tell.
    beat(topics_created, "worker-d")
    living = threading.Thread(target=live)
    living.start()
    try:
        heard = heartbeats(topics_created, lambda: datetime.now(UTC) + ahead)
    finally:
        ended.set()
        living.join()

    assert [item.worker_id for item in heard] == ["worker-c"]


def test_nobody_is_heard_of_where_nobody_lives_whatever_our_clock_says(topics_created: str) -> None:
    beat(topics_created, "worker-e")
    assert heartbeats(topics_created, lambda: datetime.now(UTC) - timedelta(hours=1)) == []


def test_tables_that_are_missing_are_told_with_the_line_that_makes_them(
    env: pytest.MonkeyPatch, stack_env: Mapping[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    with fresh_database(stack_env["HEADRACE_DATABASE"]) as empty:
        env.setenv("HEADRACE_DATABASE", empty)
        _, found = examine(capsys)

    assert found["schema"]["health"] == "wrong"
    assert found["schema"]["repair"] == "python -m runtime.database upgrade"


def test_advice_is_shown_with_its_next_step_and_is_nothing_wrong(
    env: pytest.MonkeyPatch, stack_env: Mapping[str, str], metrics_page: str, capsys: pytest.CaptureFixture[str]
) -> None:
    env.setenv("HEADRACE_METRICS", metrics_page)
    with fresh_database(stack_env["HEADRACE_DATABASE"]) as url:
        env.setenv("HEADRACE_DATABASE", url)
        with closing(Database(url)) as database, database.begin() as connection:
            connection.exec_driver_sql("CREATE TABLE t (a int)")
            for name in ("first", "second"):
                connection.exec_driver_sql(f"CREATE INDEX {name} ON t (a)")
        _, found = examine(capsys)
        main(["doctor"])
        told = capsys.readouterr().err

    assert found["statistics"]["health"] == found["duplicate index"]["health"] == "advice"
    assert found["statistics"]["repair"] == "CREATE EXTENSION pg_stat_statements;"
    assert found["duplicate index"]["repair"] == "DROP INDEX CONCURRENTLY public.second;"
    assert "duplicate index: public.second (" in told
    assert "next step: DROP INDEX CONCURRENTLY public.second;" in told


@pytest.mark.parametrize(
    ("variable", "value", "name"),
    [
        ("HEADRACE_REDIS", "redis://:secret@127.0.0.1:1/0", "redis"),
        ("HEADRACE_DATABASE", "postgresql+psycopg2://me:secret@127.0.0.1:1/none", "postgres"),
        ("HEADRACE_KAFKA", "127.0.0.1:1", "kafka"),
        ("HEADRACE_METRICS", "http://127.0.0.1:1", "dispatcher"),
    ],
)
def test_each_server_that_is_away_is_told_alone_with_the_line_that_mends_it(
    env: pytest.MonkeyPatch, variable: str, value: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    env.setenv(variable, value)
    assert main(["doctor"]) == Exit.UNREACHABLE
    captured = capsys.readouterr()

    row = next(line for line in captured.out.splitlines() if line.startswith(name))
    assert row.split()[1] == "unreachable"
    assert "mend it: " in captured.err
    assert "secret" not in captured.out + captured.err


def test_a_kafka_is_told_by_its_release(kafka: str) -> None:
    assert kafka_version(kafka, 5.0).startswith("4.")


def test_a_server_that_is_no_kafka_has_no_release(metrics_page: str) -> None:
    with pytest.raises(ServerUnreachable):
        kafka_version(metrics_page.removeprefix("http://"), 0.5)
    with pytest.raises(ServerUnreachable):
        kafka_version("nonsense", 1.0)
