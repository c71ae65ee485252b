"""Bad input costs its sender one clear error, and nobody else anything."""

import json
import random
import secrets
from collections import Counter

import pytest

from producers import Headrace
from runtime.kafka import Publisher
from schemas import topics
from schemas.errors import IdConflict
from schemas.limits import REQUEST_BYTES
from schemas.requests import Dataset, EvaluateRequest, FineTuneRequest, GenerateRequest, Record, Request
from schemas.topics import Kind
from tests.acceptance.processes import Platform
from tests.acceptance.topics import tails

REQUESTS = topics.REQUESTS[Kind.GENERATE]
WAIT_S = 90.0
GOOD, BAD, GIANTS = 100, 1_000, 12


def malformed(number: int) -> bytes:
    """One of many ways to get a request wrong; none has an id that can be read."""
    ways = (
        b"",
        b"not json",
        b"\xff\xfe\x00",
        b"[" * 10_000,
        b'{"model": "example-base", "prompt": "x", "temperature": NaN}',
        b'{"model": "example-base", "prompt": "x", "seed": 9223372036854775808}',
        b'{"model": "example-base", "prompt": "x", "max_token": 1}',
        b'{"model": "example-base", "prompt": 7}',
        b'{"model": "example-base", "prompt": ""}',
        b'{"model": "../../etc/passwd", "prompt": "x"}',
        b'{"kind": "paint", "model": "example-base", "prompt": "x"}',
        b"null",
        b'{"model": "example-base", "prompt": "' + b"x" * REQUEST_BYTES + b'"}',
    )
    # A megabyte each: of the last one a dozen will do.
    return ways[number % len(ways)] if number < GIANTS * len(ways) else ways[number % (len(ways) - 1)]


def test_a_thousand_malformed_events_between_a_hundred_good_ones(platform: Platform) -> None:
    tag = secrets.token_hex(4)
    ids = [f"good-{tag}-{number}" for number in range(GOOD)]
    good = [
        json.dumps({"id": job_id, "model": "example-base", "prompt": "abc", "max_tokens": 2}).encode() for job_id in ids
    ]
    bad = [malformed(number) for number in range(BAD)]
    mixed = good + bad
    random.Random(0).shuffle(mixed)
    before = {process.pid for process in platform.dispatchers + platform.workers if process.is_running}

    with tails(platform.servers["HEADRACE_KAFKA"], topics.RESULTS.name, REQUESTS.dead_letters) as tail:
        publisher = Publisher(platform.servers["HEADRACE_KAFKA"], "test")
        for value in mixed:
            publisher.publish_raw(REQUESTS.name, None, value, [("trace", tag.encode())])
        assert publisher.flush(WAIT_S) == 0
        publisher.close()
        letters = tail[REQUESTS.dead_letters].until(lambda records: len(records) >= BAD, WAIT_S)
        results = tail[topics.RESULTS.name].until(
            lambda records: len({row.key for row in records if row.key} & {job_id.encode() for job_id in ids}) == GOOD,
            WAIT_S,
        )

    assert sorted(record.value or b"" for record in letters) == sorted(bad)
    assert all(record.headers["trace"] == tag.encode() for record in letters)
    assert all(record.headers["dlq.error.message"] for record in letters)
    codes = Counter(record.headers["dlq.error.code"].decode() for record in letters)
    assert codes["request_too_large"] == GIANTS
    assert set(codes) == {"malformed_request", "invalid_request", "request_too_large"}
    assert {json.loads(record.value or b"")["status"] for record in results} == {"succeeded"}
    assert sorted(record.key or b"" for record in results) == sorted(job_id.encode() for job_id in ids)
    assert {process.pid for process in platform.dispatchers + platform.workers if process.is_running} == before


def test_a_refused_request_with_an_id_also_gets_a_failed_result(platform: Platform, client: Headrace) -> None:
    job_id = f"refused-{secrets.token_hex(4)}"
    body = json.dumps({"id": job_id, "model": "example-base", "prompt": "x", "max_tokens": 0}).encode()
    with tails(platform.servers["HEADRACE_KAFKA"], REQUESTS.dead_letters) as tail:
        publisher = Publisher(platform.servers["HEADRACE_KAFKA"], "test")
        publisher.publish_raw(REQUESTS.name, b"a key", body, [])
        publisher.close()
        (letter,) = tail[REQUESTS.dead_letters].until(lambda records: bool(records))
        event = client.result(job_id, WAIT_S)
    assert (letter.key, letter.value) == (b"a key", body)
    assert letter.headers["dlq.topic"].decode() == REQUESTS.name
    assert letter.headers["dlq.error.code"] == b"invalid_request"
    assert event.status == "failed"
    assert event.error is not None
    assert event.error.code == "invalid_request"
    assert "max_tokens" in event.error.message
    assert "got 0" in event.error.message


@pytest.mark.parametrize(
    ("request_", "code", "said"),
    [
        (GenerateRequest(model="no-such-model", prompt="x"), "model_not_found", "no-such-model"),
        (GenerateRequest(model="example-base", prompt="x" * 100_000, max_tokens=1), "prompt_too_long", "100,"),
        (FineTuneRequest(model="example-base", dataset=Dataset(uri="bad.jsonl")), "dataset_invalid", "Line 3"),
        (FineTuneRequest(model="example-base", dataset=Dataset(uri="absent.jsonl")), "dataset_unreachable", "absent"),
        (
            FineTuneRequest(model="example-base", dataset=Dataset(uri="file:///etc/passwd")),
            "dataset_unreachable",
            "/etc/passwd",
        ),
        (FineTuneRequest(model="example-base", dataset=Dataset(uri="empty.jsonl")), "dataset_invalid", "no example"),
        (
            EvaluateRequest(model="ft:nobody:x:00000000", dataset=Dataset(records=(Record("a", "b"),))),
            "model_not_found",
            "ft:nobody",
        ),
        (EvaluateRequest(model="example-base", task="hellaswag"), "unsupported", "hellaswag"),
    ],
)
def test_what_shows_only_while_running_is_a_failed_result(
    platform: Platform, client: Headrace, request_: Request, code: str, said: str
) -> None:
    (platform.directory / "bad.jsonl").write_text('{"prompt":"a","completion":"b"}\n\n{"prompt": oops}\n')
    (platform.directory / "empty.jsonl").write_text("\n")
    event = client.result(client.submit(request_), WAIT_S)
    assert event.status == "failed"
    assert event.error is not None
    assert event.error.code == code
    assert said in event.error.message
    after = client.submit(GenerateRequest(model="example-base", prompt="x", max_tokens=1))
    assert client.result(after, WAIT_S).status == "succeeded"


def test_a_second_body_under_an_id_is_a_dead_letter_and_leaves_the_first(platform: Platform, client: Headrace) -> None:
    job_id = f"twice-{secrets.token_hex(4)}"
    first = client.submit(GenerateRequest(id=job_id, model="example-base", prompt="one", max_tokens=2))
    with tails(platform.servers["HEADRACE_KAFKA"], REQUESTS.dead_letters) as tail:
        client.submit(GenerateRequest(id=job_id, model="example-base", prompt="two", max_tokens=2))
        (letter,) = tail[REQUESTS.dead_letters].until(lambda records: bool(records))
    assert letter.headers["dlq.error.code"] == b"id_conflict"
    # Who sent both is told, once.
    with pytest.raises(IdConflict):
        client.result(first, WAIT_S)
    assert client.result(first, WAIT_S).status == "succeeded"
