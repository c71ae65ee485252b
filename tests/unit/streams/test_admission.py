"""What becomes of a request, without a server."""

import json
from datetime import timedelta
from types import NoneType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.database.admissions import Admitted
from schemas.codec import trace_id_of
from schemas.errors import IdConflict, QuotaExceeded
from schemas.limits import REQUEST_BYTES
from schemas.results import Terminal
from schemas.topics import Kind
from streams.admission import Verdict, confirm, dead_letter_headers, judge, refuse, submitted_at
from tests.unit.streams.records import NOW, TRACE, FakeRecord


def body(**fields: object) -> bytes:
    return json.dumps({"model": "example-base", "prompt": "1 May 2026 -> ", **fields}).encode()


def judged(value: bytes | None, **fields: object) -> Verdict:
    return judge(Kind.GENERATE, FakeRecord(value, **fields), NOW)  # type: ignore[arg-type]


def test_a_request_without_an_id_gets_the_same_one_each_time_it_is_read() -> None:
    first, again = judged(body(), offset=7), judged(body(), offset=7)
    assert first.admission
    assert again.admission
    assert first.admission.id == again.admission.id == "headrace.requests.generate.v1-1-7"


def test_a_request_keeps_its_id_its_tenant_and_its_trace() -> None:
    admission = judged(body(id="a", tenant="t"), headers=[("traceparent", TRACE.encode())]).admission
    assert admission
    assert (admission.tenant, admission.id) == ("t", "a")
    assert trace_id_of(admission.traceparent) == trace_id_of(TRACE)
    assert admission.traceparent != TRACE


NO_TRACE_ID = b"00-" + b"0" * 32 + b"-" + b"1" * 16 + b"-01"
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@pytest.mark.parametrize("header", [None, b"", b"nonsense", b"\xff\xfe", NO_TRACE_ID])
def test_a_traceparent_that_is_none_starts_a_trace(header: bytes | None) -> None:
    admission = judged(body(), headers=[("traceparent", header)]).admission
    assert admission
    assert trace_id_of(admission.traceparent)


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (None, "malformed_request"),
        (b"", "malformed_request"),
        (b"\xff{", "malformed_request"),
        (b"[" * 10_000 + b"]" * 10_000, "invalid_request"),
        (b"7", "invalid_request"),
        (b'{"model": "m", "prompt": "p", "n": NaN}', "malformed_request"),
        (body(max_tokens=2**63), "invalid_request"),
        (body(unknown=1), "invalid_request"),
        (body(kind="finetune"), "invalid_request"),
        (b" " * REQUEST_BYTES + body(), "request_too_large"),
    ],
)
def test_what_is_no_request_is_refused_with_a_code(value: bytes | None, code: str) -> None:
    verdict = judged(value)
    assert verdict.refusal
    assert verdict.refusal.code == code


def test_a_refused_request_whose_id_can_be_read_gets_a_failed_result() -> None:
    verdict = judged(body(id="a", tenant="t", n="x"))
    assert verdict.refusal
    assert verdict.admission
    end = verdict.admission.rejection
    assert end
    assert end.error
    assert (end.tenant, end.job_id, end.status) == ("t", "a", Terminal.FAILED)
    assert end.error.message == str(verdict.refusal)


def test_a_refused_request_without_a_readable_id_is_a_dead_letter_alone() -> None:
    assert judged(body(id="not an id!")).admission is None


def test_a_request_whose_deadline_has_passed_is_expired_and_no_dead_letter() -> None:
    late = judged(body(id="a", deadline=(NOW - timedelta(seconds=1)).isoformat()))
    assert late.refusal is None
    assert late.admission
    assert late.admission.request
    assert late.admission.rejection
    assert late.admission.rejection.status is Terminal.EXPIRED
    in_time = judged(body(id="a", deadline=(NOW + timedelta(seconds=1)).isoformat()))
    assert in_time.admission
    assert in_time.admission.rejection is None


@settings(deadline=None)
@given(value=st.binary(max_size=200) | st.none(), header=st.none() | st.binary(max_size=40))
def test_no_bytes_get_past_the_judge(value: bytes | None, header: bytes | None) -> None:
    verdict = judged(value, headers=[("traceparent", header), ("ce_type", header)])
    assert verdict.refusal or verdict.admission


@settings(deadline=None)
@given(JSON_VALUES)
def test_no_json_breaks_the_decoder(value: object) -> None:
    verdict = judged(json.dumps(value).encode())
    assert verdict.refusal
    assert verdict.refusal.code != "refused"


def test_a_dead_letter_keeps_the_headers_and_says_where_it_comes_from() -> None:
    record = FakeRecord(b"x", [("mine", None), ("mine", b"\xff")], offset=9)
    refusal = judged(b"x").refusal
    assert refusal
    headers = dead_letter_headers(record, refusal)
    assert headers[:2] == [("mine", None), ("mine", b"\xff")]
    own = dict(headers[2:])
    assert own["dlq.topic"] == b"headrace.requests.generate.v1"
    assert (own["dlq.partition"], own["dlq.offset"], own["dlq.attempts"]) == (b"1", b"9", b"1")
    assert own["dlq.timestamp"] == str(record.timestamp).encode()
    assert own["dlq.error.code"] == b"malformed_request"


def test_a_dead_letter_that_was_replayed_counts_its_refusals() -> None:
    refusal = judged(b"x").refusal
    assert refusal
    headers = dead_letter_headers(FakeRecord(b"x"), refusal)
    again = dead_letter_headers(FakeRecord(b"x", headers), refusal)
    assert dict(again)["dlq.attempts"] == b"2"
    assert len(again) == len(headers)
    forged = [("dlq.attempts", b"9" * 10_000)]
    assert dict(dead_letter_headers(FakeRecord(b"x", forged), refusal))["dlq.attempts"] == b"1"


@pytest.mark.parametrize("timestamp", [-1, 0, 2**62, int(NOW.timestamp() * 1_000) + 60_000])
def test_a_record_without_a_believable_time_was_submitted_now(timestamp: int) -> None:
    assert submitted_at(FakeRecord(timestamp=timestamp), NOW) == NOW


def test_a_record_was_submitted_when_it_says() -> None:
    assert submitted_at(FakeRecord(), NOW) == NOW - timedelta(milliseconds=250)


def test_a_conflict_is_a_dead_letter_and_nothing_is_said_about_the_first_job() -> None:
    verdict = confirm(judged(body(id="a")), Admitted.CONFLICT)
    assert verdict.admission is None
    assert verdict.refusal
    assert verdict.refusal.code == "id_conflict"


def test_a_malformed_request_under_a_known_id_is_a_dead_letter_for_what_is_wrong_with_it() -> None:
    verdict = confirm(judged(body(id="a", n="x")), Admitted.CONFLICT)
    assert verdict.admission is None
    assert verdict.refusal
    assert verdict.refusal.code == "invalid_request"


def test_a_record_that_is_read_again_repeats_its_end_but_not_that_it_is_queued() -> None:
    assert confirm(judged(body(id="a")), Admitted.REREAD).admission is None
    refused = judged(body(id="a", n="x"))
    assert confirm(refused, Admitted.REFUSED) == refused


def test_the_same_request_sent_twice_changes_nothing() -> None:
    verdict = confirm(judged(body(id="a")), Admitted.REPEATED)
    assert (verdict.admission, verdict.refusal) == (None, None)


def test_the_same_malformed_request_sent_twice_is_two_dead_letters() -> None:
    verdict = confirm(judged(body(id="a", n="x")), Admitted.REPEATED)
    assert verdict.admission is None
    assert verdict.refusal


@pytest.mark.parametrize("fate", [Admitted.REPEATED, Admitted.CONFLICT])
def test_a_quota_does_not_refuse_what_was_admitted_before(fate: Admitted) -> None:
    verdict = confirm(refuse(judged(body(id="a")), QuotaExceeded("default", 5)), fate)
    assert verdict.admission is None
    assert type(verdict.refusal) is (IdConflict if fate is Admitted.CONFLICT else NoneType)
