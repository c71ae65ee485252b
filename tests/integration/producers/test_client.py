"""The client against a real Kafka."""

import secrets
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
from confluent_kafka import Message, TopicPartition

from producers import ClientClosed, Headrace, ResultGone
from producers.ids import time_of
from producers.partitions import partition_of
from runtime.kafka_consumers import placed_consumer
from runtime.settings import InvalidSetting
from schemas import limits
from schemas.codec import decode, decode_request, new_traceparent, trace_id_of
from schemas.errors import InvalidRequest, JobNotFound, RequestTooLarge, ResultTimeout, ServerUnreachable
from schemas.events import ControlEvent, State
from schemas.requests import Dataset, EvaluateRequest, FineTuneRequest, GenerateRequest, Request
from schemas.results import Terminal
from schemas.topics import CONTROL, REQUESTS, RESULTS, STATUS, Kind, Topic
from tests.integration.producers.stub import StubPlatform, answer

WAIT_S = 20.0
PROMPT = GenerateRequest(model="example-base", prompt="1 May 2026\n")


def new_id() -> str:
    """An id that tells no time, as a user's own."""
    return f"mine-{secrets.token_hex(8)}"


def record_of(kafka: str, topic: Topic, job_id: str) -> Message:
    """The record of a job, looked for in the partition where its key belongs."""
    place = TopicPartition(topic.name, partition_of(job_id.encode(), topic.partitions), 0)
    consumer = placed_consumer(kafka, [place], report_ends=True)
    try:
        while True:
            message = consumer.poll(WAIT_S)
            assert message is not None
            assert message.error() is None, f"{job_id} is not in partition {place.partition}"
            if message.key() == job_id.encode():
                return message
    finally:
        consumer.close()


def headers_of(message: Message) -> dict[str, str]:
    headers = message.headers()
    assert isinstance(headers, list)
    return {name: value.decode() for name, value in headers if isinstance(value, bytes)}


@pytest.mark.parametrize(
    ("request_", "kind"),
    [
        (PROMPT, Kind.GENERATE),
        (FineTuneRequest(model="m", dataset=Dataset(uri="d")), Kind.FINETUNE),
        (EvaluateRequest(model="m", dataset=Dataset(uri="d")), Kind.EVALUATE),
    ],
)
def test_a_request_lies_in_its_topic_under_its_id_with_its_envelope(
    kafka: str, client: Headrace, request_: Request, kind: Kind
) -> None:
    traceparent = new_traceparent()
    job_id = client.submit(request_, traceparent=traceparent)
    message = record_of(kafka, REQUESTS[kind], job_id)
    headers = headers_of(message)
    value = message.value()

    assert isinstance(value, bytes)
    assert decode_request(kind, value, {}).id == job_id
    assert headers["ce_id"] == headers["ce_subject"] == job_id
    assert headers["ce_type"] == REQUESTS[kind].name
    assert headers["traceparent"] == traceparent


def test_a_request_without_an_id_gets_one_that_tells_the_time(client: Headrace) -> None:
    made = time_of(client.submit(PROMPT))

    assert made is not None
    assert abs((datetime.now(UTC) - made).total_seconds()) < WAIT_S


def test_a_request_without_a_trace_begins_one(kafka: str, client: Headrace) -> None:
    headers = headers_of(record_of(kafka, REQUESTS[Kind.GENERATE], client.submit(PROMPT)))

    assert trace_id_of(headers["traceparent"])


def test_the_result_comes_to_who_submitted(client: Headrace, platform: StubPlatform) -> None:
    job_id = client.submit(PROMPT)
    platform.succeed(job_id)

    event = client.result(job_id, WAIT_S)
    assert (event.status, event.result) == (Terminal.SUCCEEDED, answer())
    # And again, whoever asks.
    assert client.result(job_id, WAIT_S) == event


def test_a_failed_job_has_a_result_too(client: Headrace, platform: StubPlatform) -> None:
    job_id = client.submit(PROMPT)
    platform.fail(job_id, "model_not_found")

    event = client.result(job_id, WAIT_S)
    assert event.status is Terminal.FAILED
    assert event.error is not None
    assert event.error.code == "model_not_found"


def test_a_result_that_came_before_somebody_connected_is_found(topics_created: str, platform: StubPlatform) -> None:
    with Headrace.connect(topics_created) as other:
        job_id, mine = other.submit(PROMPT), new_id()
    platform.succeed(job_id, mine)

    with Headrace.connect(topics_created) as client:
        assert client.result(job_id, WAIT_S).job_id == job_id
        assert client.result(mine, WAIT_S).job_id == mine


def test_a_result_that_comes_while_somebody_else_waits_is_seen(client: Headrace, platform: StubPlatform) -> None:
    job_id = new_id()
    waiting = client.expect(job_id)
    platform.succeed(job_id)

    assert waiting.result(WAIT_S).job_id == job_id


def test_many_results_are_looked_for_at_once(topics_created: str, platform: StubPlatform) -> None:
    past, coming, made = [new_id() for _ in range(300)], [new_id() for _ in range(100)], []
    with Headrace.connect(topics_created) as other:
        made = other.submit_many([PROMPT] * 100)
    platform.succeed(*past, *made)

    with Headrace.connect(topics_created) as client:
        before = threading.active_count()
        waiting = [client.expect(job_id) for job_id in (*past, *coming, *made)]
        assert threading.active_count() <= before + 2
        platform.succeed(*coming)
        assert [waiter.result(WAIT_S).job_id for waiter in waiting] == [*past, *coming, *made]


def test_a_result_that_is_kept_no_longer_is_told_where_the_job_is_known_to_have_ended(
    client: Headrace, platform: StubPlatform
) -> None:
    there, gone = new_id(), new_id()
    platform.succeed(there)

    assert client.result(there, WAIT_S, ended=True).job_id == there
    with pytest.raises(ResultGone, match=rf"{gone}.*30 days.*--database"):
        client.result(gone, WAIT_S, ended=True)


def test_the_same_id_sent_again_finds_the_first_result(topics_created: str, platform: StubPlatform) -> None:
    request = GenerateRequest(model="m", prompt="p", id=new_id())
    with Headrace.connect(topics_created) as client:
        job_id = client.submit(request)
    platform.succeed(job_id)

    with Headrace.connect(topics_created) as client:
        assert client.submit(request) == job_id
        # The platform runs it once and says nothing more.
        assert client.result(job_id, WAIT_S).status is Terminal.SUCCEEDED


def test_many_requests_are_sent_together_and_all_results_come(client: Headrace, platform: StubPlatform) -> None:
    job_ids = client.submit_many(GenerateRequest(model="m", prompt=str(number)) for number in range(200))
    platform.succeed(*reversed(job_ids))

    assert len(set(job_ids)) == 200
    assert [client.result(job_id, WAIT_S).job_id for job_id in job_ids] == job_ids


def test_several_threads_may_wait_for_one_job(client: Headrace, platform: StubPlatform) -> None:
    job_id = client.submit(PROMPT)
    with ThreadPoolExecutor(4) as threads:
        waiting = [threads.submit(client.result, job_id, WAIT_S) for _ in range(4)]
        platform.succeed(job_id)
        assert {waiter.result().job_id for waiter in waiting} == {job_id}


def test_a_result_under_another_tenant_is_not_ours(client: Headrace, platform: StubPlatform) -> None:
    job_id = client.submit(PROMPT)
    platform.succeed(job_id, tenant="other", result=answer("theirs"))
    platform.succeed(job_id, result=answer("ours"))

    assert client.result(job_id, WAIT_S).result == answer("ours")


def test_records_that_are_no_results_are_passed_over(client: Headrace, platform: StubPlatform) -> None:
    job_id, foreign = client.submit(PROMPT), new_id()
    for name in (job_id, foreign):
        platform.garbage(RESULTS, name, [b"", b"{", b"null", b"[]", b'{"job_id": 1}', None])
    platform.succeed(job_id, foreign)

    assert client.result(job_id, WAIT_S).job_id == job_id
    assert client.result(foreign, WAIT_S).job_id == foreign


def test_waiting_ends_with_the_time_and_may_be_repeated(client: Headrace, platform: StubPlatform) -> None:
    job_id = client.submit(PROMPT)
    with pytest.raises(ResultTimeout, match=r"after 0.2 s"):
        client.result(job_id, 0.2)
    with pytest.raises(ResultTimeout):
        client.result(new_id(), 0.2)
    platform.succeed(job_id)

    assert client.result(job_id, WAIT_S).job_id == job_id


def test_an_oversized_request_is_refused_before_it_is_sent(client: Headrace) -> None:
    with pytest.raises(RequestTooLarge, match=r"1,048,\d+ bytes; the limit is 1,048,576\. Put its data into a file"):
        client.submit(GenerateRequest(model="m", prompt="x" * limits.REQUEST_BYTES))


@pytest.mark.parametrize(
    "request_",
    [
        GenerateRequest(model="m", prompt="p", max_tokens=0),
        GenerateRequest(model="m", prompt="p", temperature=float("nan")),
        GenerateRequest(model="m", prompt="p", seed=2**63),
        GenerateRequest(model="m", prompt="\ud800"),
        GenerateRequest(model="../m", prompt="p"),
        GenerateRequest(model="m", prompt="p", id="no spaces"),
        GenerateRequest(model="m", prompt="p", tenant="other"),
        GenerateRequest(model="m", prompt=object()),  # type: ignore[arg-type]
        "a prompt",
    ],
)
def test_an_invalid_request_is_refused_before_it_is_sent(client: Headrace, request_: Request) -> None:
    with pytest.raises(InvalidRequest):
        client.submit(request_)


def test_requests_carry_the_clients_tenant(topics_created: str) -> None:
    with Headrace.connect(topics_created, tenant="acme") as client:
        message = record_of(topics_created, REQUESTS[Kind.GENERATE], client.submit(PROMPT))

    value = message.value()
    assert isinstance(value, bytes)
    assert decode_request(Kind.GENERATE, value, {}).tenant == "acme"


def test_cancel_publishes_the_wish_under_the_jobs_key(kafka: str, client: Headrace) -> None:
    job_id = client.submit(PROMPT)
    client.cancel(job_id, "no longer needed")
    message = record_of(kafka, CONTROL, job_id)

    assert decode(ControlEvent, message.value() or b"") == ControlEvent(
        action="cancel", job_id=job_id, reason="no longer needed"
    )
    assert headers_of(message)["ce_id"] == f"default/{job_id}/cancel"


def test_the_status_is_the_last_on_the_topic(client: Headrace, platform: StubPlatform) -> None:
    job_id = client.submit(PROMPT)
    with pytest.raises(JobNotFound, match=job_id):
        client.status(job_id)
    platform.state(job_id, State.QUEUED, State.RUNNING)
    platform.state(job_id, State.FAILED, tenant="other")
    platform.garbage(STATUS, job_id, [b"{"])

    found = client.status(job_id)
    assert (found.state, found.worker_id) == (State.RUNNING, "worker-1")


def test_jobs_are_listed_only_with_a_database(client: Headrace) -> None:
    with pytest.raises(InvalidSetting, match="HEADRACE_DATABASE"):
        client.jobs()


def test_no_thread_is_left_after_close(topics_created: str, platform: StubPlatform) -> None:
    before = set(threading.enumerate())
    client = Headrace.connect(topics_created)
    job_id = client.submit(PROMPT)
    platform.succeed(job_id)
    client.result(job_id, WAIT_S)
    waiting = client.expect(new_id())
    client.close()
    client.close()

    assert set(threading.enumerate()) <= before
    with pytest.raises(ClientClosed):
        waiting.result(WAIT_S)


@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.submit(PROMPT),
        lambda client: client.result("x", 1),
        lambda client: client.status("x"),
        lambda client: client.cancel("x"),
        lambda client: next(client.watch("x")),
    ],
)
def test_a_closed_client_says_so(topics_created: str, call: Callable[[Headrace], object]) -> None:
    client = Headrace.connect(topics_created)
    client.close()

    with pytest.raises(ClientClosed):
        call(client)


def test_connecting_to_nothing_fails_in_time() -> None:
    with pytest.raises(ServerUnreachable, match=r"Kafka at 127\.0\.0\.1:1 is not reachable"):
        Headrace.connect("127.0.0.1:1")
