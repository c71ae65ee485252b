"""What the client and the command line ask of jobs, on a real Kafka."""

import asyncio
import json
import secrets
from collections.abc import Iterator

import pytest
from confluent_kafka import Message

from producers import AsyncHeadrace, Headrace, NotRetried
from producers.cli.exits import Exit
from runtime.kafka_consumers import assigned_consumer
from schemas.codec import decode_control
from schemas.errors import InvalidRequest, JobNotFound
from schemas.events import ControlEvent, State
from schemas.topics import CONTROL
from tests.integration.producers.conftest import Call
from tests.integration.producers.stub import StubPlatform

WAIT_S = 20


def new_id() -> str:
    return f"mine-{secrets.token_hex(8)}"


def wishes(kafka: str, job_id: str) -> list[ControlEvent]:
    """What was asked of the job so far."""

    def records() -> Iterator[Message]:
        consumer = assigned_consumer(kafka, CONTROL.name, range(CONTROL.partitions), at="beginning")
        try:
            while batch := consumer.consume(500, 1.0):
                yield from (message for message in batch if not message.error())
        finally:
            consumer.close()

    return [decode_control(found.value(), {}) for found in records() if found.key() == job_id.encode()]


def test_each_wish_is_published_as_it_was_meant(topics_created: str, client: Headrace) -> None:
    job_id = new_id()
    client.pause(job_id, "make room")
    client.resume(job_id)
    client.cancel(job_id, keep_partial=True)
    assert wishes(topics_created, job_id) == [
        ControlEvent(action="pause", job_id=job_id, reason="make room"),
        ControlEvent(action="resume", job_id=job_id),
        ControlEvent(action="cancel", job_id=job_id, keep_partial=True),
    ]


def test_a_retry_names_the_new_job_whose_result_is_awaited(
    topics_created: str, client: Headrace, platform: StubPlatform
) -> None:
    job_id = new_id()
    platform.state(job_id, State.FAILED)
    retried = client.retry(job_id)
    platform.succeed(retried)
    assert retried.startswith("generate-")
    assert wishes(topics_created, job_id) == [ControlEvent(action="retry", job_id=job_id, new_id=retried)]
    assert client.result(retried, WAIT_S).job_id == retried


def test_a_job_that_waits_for_another_attempt_keeps_its_id(client: Headrace, platform: StubPlatform) -> None:
    job_id = new_id()
    platform.state(job_id, State.QUEUED)
    assert client.retry(job_id) == job_id


@pytest.mark.parametrize(
    ("state", "advice"), [(State.RUNNING, "cancel it first"), (State.SUCCEEDED, "new id"), (State.REJECTED, "new id")]
)
def test_what_has_nothing_to_retry_is_refused_with_the_next_step(
    state: State, advice: str, client: Headrace, platform: StubPlatform
) -> None:
    job_id = new_id()
    platform.state(job_id, state)
    with pytest.raises(NotRetried, match=f"{job_id}' is {state}.*{advice}"):
        client.retry(job_id)
    with pytest.raises(JobNotFound):
        client.retry(new_id())


def test_a_wish_of_the_wrong_form_is_not_sent(client: Headrace) -> None:
    with pytest.raises(InvalidRequest, match="<= 1024"):
        client.cancel("fine", "x" * 1_025)
    with pytest.raises(InvalidRequest, match=r"'no spaces'"):
        client.pause("no spaces")


def test_the_asynchronous_client_asks_the_same(topics_created: str, platform: StubPlatform) -> None:
    job_id = new_id()
    platform.state(job_id, State.CANCELLED)

    async def run() -> str:
        async with await AsyncHeadrace.connect(topics_created) as client:
            await client.pause(job_id)
            await client.resume(job_id)
            await client.cancel(job_id, keep_partial=True)
            return await client.retry(job_id, new_id=f"{job_id}.again")

    assert asyncio.run(run()) == f"{job_id}.again"
    assert [wish.action for wish in wishes(topics_created, job_id)] == ["pause", "resume", "cancel", "retry"]


def test_cancel_asks_for_each_job_and_tells_what_is_not_there_or_has_ended(
    headrace: Call, topics_created: str, platform: StubPlatform
) -> None:
    running, ended, cancelled, unknown = (new_id() for _ in range(4))
    platform.state(running, State.RUNNING)
    platform.state(ended, State.SUCCEEDED)
    platform.state(cancelled, State.CANCELLED)

    said = headrace("cancel", running, cancelled, "--keep-partial", "--reason", "too slow", "-o", "json")
    assert said.status == Exit.OK
    assert json.loads(said.out) == [{"job_id": running, "action": "cancel", "was": "running", "id": running}]
    assert f"job {cancelled} has ended as cancelled" in said.err
    assert wishes(topics_created, running) == [
        ControlEvent(action="cancel", job_id=running, reason="too slow", keep_partial=True)
    ]
    assert headrace("cancel", ended, running).status == Exit.FAILED
    missing = headrace("cancel", unknown, running, "-o", "name")
    assert (missing.status, missing.out.strip()) == (Exit.NOT_FOUND, running)
    assert unknown in missing.err
    assert wishes(topics_created, ended) == wishes(topics_created, unknown) == []


def test_a_job_that_nobody_knows_yet_is_cancelled_early_if_that_is_meant(headrace: Call, topics_created: str) -> None:
    job_id = new_id()
    said = headrace("cancel", job_id, "--early")
    assert said.status == Exit.OK
    assert "not known yet" in said.out
    assert [wish.action for wish in wishes(topics_created, job_id)] == ["cancel"]


def test_pause_resume_and_retry_print_the_ids_under_which_jobs_go_on(
    headrace: Call, topics_created: str, platform: StubPlatform
) -> None:
    job_id, failed = new_id(), new_id()
    platform.state(job_id, State.RUNNING)
    platform.state(failed, State.FAILED)
    assert headrace("pause", job_id, "-o", "name").out.strip() == job_id
    assert headrace("resume", job_id, "-o", "name").out.strip() == job_id
    assert headrace("retry", failed, "--new-id", f"{failed}.r1", "-o", "name").out.strip() == f"{failed}.r1"
    assert [wish.action for wish in wishes(topics_created, job_id)] == ["pause", "resume"]
    refused = headrace("retry", job_id)
    assert refused.status == Exit.FAILED
    assert "is running" in refused.err
    assert headrace("retry", job_id, failed, "--new-id", "x").status == Exit.USAGE


@pytest.mark.parametrize("verb", ["cancel", "pause", "resume", "retry"])
def test_bad_input_to_a_verb_shows_value_limit_and_next_step(verb: str, headrace: Call, platform: StubPlatform) -> None:
    job_id = new_id()
    platform.state(job_id, State.CANCELLED if verb == "retry" else State.RUNNING)
    unknown = headrace(verb, "no-such-job")
    assert (unknown.status, unknown.out) == (Exit.NOT_FOUND, "")
    assert "no-such-job" in unknown.err
    long = headrace(verb, job_id, "--reason", "x" * 2_000)
    assert (long.status, long.out) == (Exit.USAGE, "")
    assert "<= 1024" in long.err
    assert "characters)" in long.err
    assert headrace(verb).status == Exit.USAGE
    assert headrace(verb, job_id, "--kafka", "127.0.0.1:1").status == Exit.UNREACHABLE
