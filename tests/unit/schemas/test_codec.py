"""Bytes to events and back: nothing is lost, and what is bad is refused with the value and the limit."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from schemas import limits
from schemas.codec import decode, decode_request, derived_id, digest, encode, readable_id
from schemas.errors import InvalidEnvelope, InvalidRequest, MalformedRequest, RequestRefused, RequestTooLarge
from schemas.events import Lease, WorkEvent
from schemas.requests import Job, JobId, Request
from schemas.topics import REQUESTS, Kind, kind_of
from scripts.json_schemas import EVENTS, Event, json_schema
from tests.unit.schemas import strategies

SCHEMAS = {event.name: json_schema(event) for event in EVENTS}
# A work event carries a request and a stop a wish, whose fields also depend on each other.
INDEPENDENT = [event for event in EVENTS if not event.by_clients and event.name not in ("work", "stop")]

FINE = b'{"model": "example-base", "prompt": "March 5, 2026"}'


def work_event(request: Request) -> WorkEvent:
    now = datetime(2026, 11, 24, tzinfo=UTC)
    job = Job(id="job-1", tenant="acme", request=request, submitted_at=now, queued_at=now, traceparent="")
    return WorkEvent(job=job, lease=Lease("acme", "job-1", 1, "worker-1"), scheduled_at=now)


def kind_of_request(request: Request) -> Kind:
    return Kind(json.loads(encode(request))["kind"])


def refused(
    value: bytes | None, kind: Kind = Kind.GENERATE, headers: Mapping[str, bytes] | None = None
) -> RequestRefused:
    with pytest.raises(RequestRefused) as caught:
        decode_request(kind, value, headers or {})
    return caught.value


@given(strategies.REQUESTS)
@settings(deadline=None)
def test_a_request_survives_encoding_and_decoding(request: Request) -> None:
    assert decode_request(kind_of_request(request), encode(request), {}) == request


@given(strategies.REQUESTS)
@settings(deadline=None)
def test_the_json_schema_allows_every_request_that_the_decoder_takes(request: Request) -> None:
    schema = SCHEMAS[f"{kind_of_request(request)}-request"]
    Draft202012Validator(schema).validate(json.loads(encode(request)))


@given(strategies.REQUESTS)
@settings(deadline=None)
def test_a_work_event_carries_any_request(request: Request) -> None:
    event = work_event(request)
    assert decode(WorkEvent, encode(event)) == event
    assert event.job.kind == kind_of_request(request)
    Draft202012Validator(SCHEMAS["work"]).validate(json.loads(encode(event)))


@pytest.mark.parametrize("event", INDEPENDENT, ids=[event.name for event in INDEPENDENT])
@given(data=st.data())
@settings(deadline=None, max_examples=50)
def test_the_decoder_takes_every_event_that_the_json_schema_allows(event: Event, data: st.DataObject) -> None:
    schema = SCHEMAS[event.name]
    value = json.dumps(data.draw(strategies.matching(schema, schema))).encode()
    decoded = decode(event.type, value)
    assert decode(event.type, encode(decoded)) == decoded


@pytest.mark.parametrize("event", EVENTS, ids=[event.name for event in EVENTS])
def test_the_decoder_has_one_error_for_whatever_it_is_given(event: Event) -> None:
    fields = [field for struct in get_args(event.type) or (event.type,) for field in msgspec.structs.fields(struct)]
    in_a_string = [b'{"%s":"\xff"}' % field.encode_name.encode() for field in fields]
    for value in (*in_a_string, b'{"unknown":' + b"[" * 5_000, b"[" * 5_000, b'"\xff"', b"\xff", b""):
        with pytest.raises(msgspec.DecodeError):
            decode(event.type, value)


def test_a_request_by_hand_needs_neither_headers_nor_a_kind() -> None:
    request = decode_request(Kind.GENERATE, FINE + b"\n", {})
    assert (request.model, request.id, request.tenant) == ("example-base", None, "default")


def test_headers_of_other_tools_are_no_reason_to_refuse() -> None:
    decode_request(Kind.GENERATE, FINE, {"content-type": b"text/plain", "x": b"\xff"})


def test_the_digest_tells_one_body_from_another() -> None:
    assert digest(FINE) == digest(bytes(FINE)) != digest(FINE + b" ")


@pytest.mark.parametrize("value", [None, b"", b"  \n"])
def test_an_empty_value_is_refused_as_malformed(value: bytes | None) -> None:
    error = refused(value)
    assert isinstance(error, MalformedRequest)
    assert "empty" in str(error)


@pytest.mark.parametrize(
    "value",
    [
        b"not json",
        b'{"model": "m", "prompt": "cut of',
        b'{"model": "m", "prompt": "\xff"}',
        b'{"model": "m", "prompt": "\\ud800"}',
        b'{"model": "m", "prompt": "p", "temperature": NaN}',
        b'{"model": "m", "prompt": "p", "temperature": Infinity}',
        FINE + b" and more",
        b"\xef\xbb\xbf" + FINE,
        b"[" * 10_000,
        b'{"model": "m", "prompt": "p", "seed": 01}',
    ],
)
def test_bytes_that_are_not_json_are_refused_with_their_beginning(value: bytes) -> None:
    for kind in Kind:
        error = refused(value, kind)
        assert error.code in ("malformed_request", "invalid_request")
    if not value.startswith(b"["):
        assert isinstance(refused(value), MalformedRequest)
        assert repr(value[:20])[:-1] in str(refused(value))


@pytest.mark.parametrize("depth", [10, 900, 960, *range(980, 1_010), 10_000])
@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
@pytest.mark.parametrize(
    "place", [b"%s", b'{"model": "m", "prompt": %s}', b'{"model": "m", "prompt": "p", "more": %s}']
)
def test_nesting_of_any_depth_is_refused(place: bytes, opening: bytes, closing: bytes, depth: int) -> None:
    value = place % (opening * depth + b"1" + closing * depth)
    for kind in Kind:
        assert len(str(refused(value, kind))) < 1_000


def test_nesting_in_a_field_that_is_otherwise_ignored_is_refused() -> None:
    nested = b"[" * 10_000 + b"]" * 10_000
    value = b'{"model": "m", "dataset": {"records": [{"prompt": "a", "completion": "b", "note": %s}]}}' % nested
    assert isinstance(refused(value, Kind.FINETUNE), MalformedRequest)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ('"seed": 9223372036854775808', ["9223372036854775808", "<= 9223372036854775807", "$.seed"]),
        (f'"seed": {"9" * 5_000}', ["got 999", "(5,000 characters)", "at most 9,223,372,036,854,775,807"]),
        ('"seed": -1', ["got -1", ">= 0"]),
        ('"seed": 1.5', ["got 1.5", "int"]),
        ('"n": 129', ["got 129", "<= 128"]),
        ('"n": true', ["got True", "int"]),
        ('"temperature": 1e400', ["got 1e400", "at most 2"]),
        ('"temperature": -0.5', ["got -0.5", ">= 0"]),
        ('"top_p": 0', ["got 0", "> 0"]),
        ('"max_tokens": "12"', ["got '12'", "int", "$.max_tokens"]),
        ('"max_token": 12', ["`max_token`", "got 12", "max_tokens"]),
        ('"priority": "urgent"', ["'urgent'", "'batch', 'high', 'normal'"]),
        ('"kind": "finetune"', ["'finetune'", "one of 'generate'"]),
        ('"stop": ["", "x"]', ["$.stop[0]", "length >= 1"]),
        ('"stop": ["1", "2", "3", "4", "5", "6", "7", "8", "9"]', ["length <= 8"]),
        ('"id": ""', ["length >= 1", "$.id"]),
        ('"id": "a b"', ["got 'a b'", "regex"]),
        ('"id": "a\\n"', ["got 'a\\n'", "regex"]),
        ('"tenant": "../other"', ["got '../other'", "regex"]),
        ('"tenant": null', ["got `null`", "$.tenant"]),
        ('"adapter": "a/../../b"', ["got 'a/../../b'", "regex"]),
        ('"deadline": "2026-01-01T00:00:00"', ["timezone", "got '2026-01-01T00:00:00'"]),
        ('"deadline": "tomorrow"', ["got 'tomorrow'", "$.deadline"]),
        ('"deadline": "0001-01-01T00:00:00+12:00"', ["year is from 2 to 9998, not 1"]),
        ('"deadline": "9999-12-31T23:59:59-12:00"', ["year is from 2 to 9998, not 9999"]),
        ('"messages": []', ["length >= 1", "got []"]),
        ('"messages": [{"role": "usr", "content": "x"}]', ["'usr'", "$.messages[0].role", "'user'"]),
        ('"messages": [{"role": "user"}]', ["`content`", "got {'role': 'user'}"]),
        ('"prompts": ["x"]', ["one of", "['prompt', 'prompts']"]),
        ('"n": 128, "max_tokens": 131072', ["16,777,216", "1,048,576"]),
    ],
)
def test_a_field_that_is_wrong_is_refused_with_its_value_and_the_limit(fields: str, said: list[str]) -> None:
    error = refused(f'{{"model": "m", "prompt": "p", {fields}}}'.encode())
    assert isinstance(error, InvalidRequest)
    for words in said:
        assert words in str(error)


@pytest.mark.parametrize(
    ("kind", "value", "said"),
    [
        (Kind.GENERATE, "[]", ["object", "array"]),
        (Kind.GENERATE, "null", ["object", "null"]),
        (Kind.GENERATE, "{}", ["`model`"]),
        (Kind.GENERATE, '{"model": "", "prompt": "p"}', ["length >= 1"]),
        (Kind.GENERATE, '{"model": "m"}', ["`prompt`, `messages` and `prompts`", "none"]),
        (Kind.FINETUNE, '{"model": "m"}', ["`dataset`"]),
        (Kind.FINETUNE, '{"model": "m", "dataset": {}}', ["`uri` or `records`"]),
        (Kind.FINETUNE, '{"model": "m", "dataset": {"url": "x"}}', ["`url`", "got 'x'", "uri, records"]),
        (Kind.FINETUNE, '{"model": "m", "dataset": {"records": [{"prompt": "p"}]}}', ["$.dataset.records[0]"]),
        (
            Kind.FINETUNE,
            '{"model": "m", "dataset": {"uri": "x"}, "hyperparameters": {"epochs": 1, "max_steps": 1}}',
            ["`epochs` or by `max_steps`"],
        ),
        (Kind.FINETUNE, '{"model": "m", "dataset": {"uri": "x"}, "method": {"rank": 0}}', ["got 0", "$.method.rank"]),
        (Kind.EVALUATE, '{"model": "m"}', ["`dataset` or `task`"]),
        (Kind.EVALUATE, '{"model": "m", "task": "t", "metrics": ["bleu"]}', ["'bleu'", "'chrf'", "$.metrics[0]"]),
        (Kind.EVALUATE, '{"model": "m", "task": "t", "gate": {"metric": "exact_match"}}', ["`minimum`", "$.gate"]),
        (Kind.EVALUATE, '{"model": "m", "task": "t", "gate": {"metric": "chrf", "minimum": 1}}', ["`chrf`"]),
        (
            Kind.EVALUATE,
            '{"model": "m", "task": "t", "gate": {"metric": "exact_match", "better_than_baseline": true}}',
            ["`baseline`"],
        ),
    ],
)
def test_a_body_that_is_wrong_is_refused_with_what_is_missing(kind: Kind, value: str, said: list[str]) -> None:
    error = refused(value.encode(), kind)
    assert isinstance(error, InvalidRequest)
    for words in said:
        assert words in str(error)


def test_a_request_over_the_size_limit_is_refused_with_both_sizes() -> None:
    error = refused(FINE + b" " * limits.REQUEST_BYTES)
    assert isinstance(error, RequestTooLarge)
    assert f"{len(FINE) + limits.REQUEST_BYTES:,}" in str(error)
    assert f"{limits.REQUEST_BYTES:,}" in str(error)


def test_a_request_at_the_size_limit_is_taken() -> None:
    decode_request(Kind.GENERATE, FINE.ljust(limits.REQUEST_BYTES), {})


@pytest.mark.parametrize(
    ("name", "given", "wanted"),
    [
        ("ce_type", b"headrace.requests.finetune.v1", "'headrace.requests.generate.v1'"),
        ("ce_type", b"", "'headrace.requests.generate.v1'"),
        ("ce_specversion", b"0.3", "'1.0'"),
        ("ce_specversion", b"\xff", "'1.0'"),
    ],
)
def test_an_envelope_that_contradicts_the_topic_is_refused(name: str, given: bytes, wanted: str) -> None:
    error = refused(FINE, headers={name: given})
    assert isinstance(error, InvalidEnvelope)
    assert repr(given) in str(error)
    assert wanted in str(error)


@pytest.mark.parametrize(
    "value",
    [
        b'{"model": "m", "prompt": "p", "%s": 1}' % (b"k" * 500_000),
        b'{"model": "m", "prompt": "p", "priority": "%s"}' % (b"h" * 500_000),
        b'{"model": "m", "prompt": "p", "seed": %s}' % (b"9" * 500_000),
        b'{"model": "m", "prompt": "p", "n": [%s1]}' % (b"1," * 200_000),
    ],
)
def test_a_refusal_stays_short_whatever_was_sent(value: bytes) -> None:
    assert len(str(refused(value))) < 1_000


def test_a_refusal_has_no_control_characters() -> None:
    assert str(refused(b'{"model": "m", "prompt": "p", "a\\u0000\\n\\u001b[31m": 1}')).isprintable()


@given(st.binary(max_size=200), st.sampled_from(Kind))
@settings(deadline=None)
def test_arbitrary_bytes_raise_nothing_but_refusals(value: bytes, kind: Kind) -> None:
    refused(value, kind)
    assert readable_id(value) is None


@given(strategies.JSON_VALUES, st.sampled_from(Kind))
@settings(deadline=None)
def test_arbitrary_json_raises_nothing_but_refusals(value: object, kind: Kind) -> None:
    assert str(refused(json.dumps(value).encode(), kind)).isprintable()


@given(strategies.REQUESTS, st.data())
@settings(deadline=None, max_examples=200)
def test_a_request_with_a_changed_field_is_taken_or_refused(request: Request, data: st.DataObject) -> None:
    kind = kind_of_request(request)
    body = json.loads(encode(request))
    body[data.draw(st.sampled_from([*body, "other"]))] = data.draw(strategies.JSON_VALUES)
    try:
        decode_request(kind, json.dumps(body).encode(), {})
    except RequestRefused as error:
        assert 10 < len(str(error)) < 1_000  # noqa: PT017 - a changed field may also be fine


@given(strategies.REQUESTS, st.data())
@settings(deadline=None, max_examples=200)
def test_a_request_with_changed_bytes_is_taken_or_refused(request: Request, data: st.DataObject) -> None:
    value = bytearray(encode(request))
    value[data.draw(st.integers(0, len(value) - 1))] = data.draw(st.integers(0, 255))
    try:
        decode_request(kind_of_request(request), bytes(value), {})
    except RequestRefused as error:
        assert len(str(error)) < 1_000  # noqa: PT017 - a changed byte may also be fine


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (b'{"id": "job-1", "prompt": 3, "other": {}}', ("default", "job-1")),
        (b'{"id": "job-1", "tenant": "acme"}', ("acme", "job-1")),
        (b'{"id": "job-1", "tenant": "../acme"}', None),
        (b'{"id": "a b"}', None),
        (b'{"id": 1}', None),
        (b'{"id": "job-1"', None),
        (b'{"tenant": "acme"}', None),
        (b'{"id": "job-1", "x": ' + b"[" * 10_000 + b"]" * 10_000 + b"}", None),
        (b"[]", None),
        (b"", None),
        (None, None),
    ],
)
def test_tenant_and_id_are_read_from_a_refused_request_where_both_are_sound(
    value: bytes | None, found: tuple[str, str] | None
) -> None:
    assert readable_id(value) == found


def test_a_derived_id_is_the_same_at_each_reading_and_a_valid_id() -> None:
    topic = REQUESTS[Kind.EVALUATE].name
    assert derived_id(topic, 2, 1041) == derived_id(topic, 2, 1041) == "headrace.requests.evaluate.v1-2-1041"
    assert len({derived_id(topic, partition, offset) for partition in range(3) for offset in range(30)}) == 90
    assert decode(JobId, encode(derived_id(topic, 2, 2**63 - 1)))


def test_the_kind_of_a_topic_is_that_of_its_requests() -> None:
    assert [kind_of(REQUESTS[kind].name) for kind in Kind] == list(Kind)
    with pytest.raises(KeyError):
        kind_of("headrace.results.v1")
