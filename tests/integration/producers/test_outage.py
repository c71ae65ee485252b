"""A Kafka of this module's own: without topics at first, and then frozen."""

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from deploy.local.stack import Plan
from deploy.local.state import StackState
from deploy.local.temporary import temporary_stack
from producers import Headrace
from producers.claims import Claims
from producers.cli import main
from producers.cli.exits import Exit
from producers.cluster import Cluster
from producers.tail import ResultTail
from runtime.topic_admin import TopicAdmin, TopicsMissing
from schemas.errors import ServerUnreachable
from schemas.requests import DEFAULT_TENANT, GenerateRequest
from schemas.topics import ALL
from tests.integration.producers.stub import StubPlatform

PROMPT = GenerateRequest(model="m", prompt="p")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StackState]:
    directory = tmp_path_factory.mktemp("outage") / "stack"
    with temporary_stack(Plan(Path(directory), servers_only=True, durable=False)) as state:
        yield state


@contextmanager
def frozen(stack: StackState, name: str) -> Iterator[None]:
    pid = next(service.pid for service in stack.services if service.name == name)
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_missing_topics_are_named_with_the_command_that_creates_them(
    stack: StackState, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kafka = stack.environment["HEADRACE_KAFKA"]
    monkeypatch.setenv("HEADRACE_KAFKA", kafka)
    with pytest.raises(TopicsMissing, match=r"headrace.requests.generate.v1.*Run `headrace topics create`"):
        Headrace.connect(kafka)
    assert main(["status", "x"]) == Exit.UNREACHABLE
    assert main(["topics", "-o", "name"]) == Exit.FAILED
    assert capsys.readouterr().out.split() == sorted(topic.name for topic in ALL)

    assert main(["topics", "create", "-o", "name"]) == Exit.OK
    assert capsys.readouterr().out.split() == [topic.name for topic in ALL]
    with Headrace.connect(kafka) as client:
        assert client.submit(PROMPT)


def test_a_frozen_kafka_is_told_in_time_and_the_request_may_be_sent_again(stack: StackState) -> None:
    kafka = stack.environment["HEADRACE_KAFKA"]
    TopicAdmin(kafka).create_missing()
    request = GenerateRequest(model="m", prompt="p", id="mine")
    with Headrace.connect(kafka) as client:
        client.submit(PROMPT)
        with frozen(stack, "kafka"):
            started_s = time.monotonic()
            with pytest.raises(ServerUnreachable, match="Kafka"):
                client.submit(request)
            assert time.monotonic() - started_s < 20
        assert client.submit(request) == "mine"


def test_a_wait_for_ones_own_job_ends_while_kafka_is_away_and_may_be_repeated(stack: StackState) -> None:
    kafka = stack.environment["HEADRACE_KAFKA"]
    TopicAdmin(kafka).create_missing()
    with (
        closing(StubPlatform(kafka)) as platform,
        closing(Cluster(kafka)) as cluster,
        closing(ResultTail(cluster, DEFAULT_TENANT, Claims(), silence_s=0.5)) as tail,
    ):
        tail.expect("awaited")
        with frozen(stack, "kafka"), pytest.raises(ServerUnreachable, match="Kafka"):
            tail.result("awaited")[0].result(20)
        platform.succeed("awaited")
        while True:
            # It takes a moment to be back.
            with suppress(ServerUnreachable):
                assert tail.result("awaited")[0].result(20).job_id == "awaited"
                return


def test_the_doctor_is_done_in_time_whatever_hangs(
    stack: StackState, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in stack.environment.items():
        monkeypatch.setenv(name, value)
    started_s = time.monotonic()
    with frozen(stack, "kafka"), frozen(stack, "redis"), frozen(stack, "postgres"):
        status = main(["doctor", "-o", "json"])
    took_s = time.monotonic() - started_s
    found = {item["name"]: item["health"] for item in json.loads(capsys.readouterr().out)}

    assert status == Exit.UNREACHABLE
    assert {name: found[name] for name in ("kafka", "redis", "postgres")} == dict.fromkeys(
        ("kafka", "redis", "postgres"), "unreachable"
    )
    assert took_s < 15
