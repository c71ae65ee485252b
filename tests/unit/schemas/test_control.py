"""Clients' wishes: what is taken, what is refused with which words, and what the last release makes of a stop."""

import json

import msgspec
import pytest

from schemas.codec import decode, decode_control, encode
from schemas.errors import InvalidEnvelope, InvalidRequest, MalformedRequest, RequestRefused
from schemas.events import ControlEvent, Lease, StopEvent, WorkEvent

CANCEL = ControlEvent(action="cancel", job_id="job-1", tenant="acme", reason="too slow", keep_partial=True)


def refused(value: bytes | None, **headers: bytes) -> RequestRefused:
    with pytest.raises(RequestRefused) as caught:
        decode_control(value, headers)
    return caught.value


def test_a_wish_survives_encoding_and_decoding() -> None:
    assert decode_control(encode(CANCEL), {}) == CANCEL
    assert decode_control(b'{"action": "retry", "job_id": "a", "new_id": "b"}', {}).new_id == "b"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"action": "stop"}, ["'stop'", "'cancel', 'pause', 'resume', 'retry'", "$.action"]),
        ({"job_id": "a b"}, ["'a b'", "$.job_id"]),
        ({"job_id": "x" * 129}, ["<= 128"]),
        ({"tenant": "../acme"}, ["'../acme'", "$.tenant"]),
        ({"reason": "x" * 1_025}, ["<= 1024", "$.reason"]),
        ({"keep": True}, ["`keep`", "keep_partial"]),
        ({"keep_partial": "yes"}, ["'yes'", "bool"]),
        ({"action": "pause", "keep_partial": True}, ["`keep_partial`", "`cancel`", "`pause`", "leave it out"]),
        ({"new_id": "b"}, ["`new_id`", "`retry`", "`cancel`", "leave it out"]),
        ({"action": "retry", "new_id": ""}, ["$.new_id", ">= 1"]),
    ],
)
def test_a_wish_that_is_wrong_is_refused_with_its_value_and_what_would_be_right(
    fields: dict[str, object], said: list[str]
) -> None:
    error = refused(json.dumps({"action": "cancel", "job_id": "job-1"} | fields).encode())
    assert isinstance(error, InvalidRequest)
    for words in said:
        assert words in str(error)


def test_bytes_that_are_no_wish_are_refused() -> None:
    assert isinstance(refused(None), MalformedRequest)
    assert isinstance(refused(b"cancel job-1"), MalformedRequest)
    assert isinstance(refused(encode(CANCEL), ce_type=b"headrace.requests.generate.v1"), InvalidEnvelope)


def test_the_last_releases_workers_skip_a_stop_as_no_job() -> None:
    stop = StopEvent(Lease("acme", "job-1", 1, "worker-1"), CANCEL)
    assert decode(StopEvent, encode(stop)) == stop
    with pytest.raises(msgspec.DecodeError, match="job"):
        decode(WorkEvent, encode(stop))
