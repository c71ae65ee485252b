"""The CloudEvents envelope and the trace that goes with it."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.codec import Envelope, child_traceparent, new_traceparent, trace_id_of
from schemas.dead_letters import HEADERS, DeadLetter

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE_ID}-00f067aa0ba902b7-01"


def test_an_envelope_has_the_headers_of_cloudevents_in_binary_mode() -> None:
    envelope = Envelope(
        id="job-1",
        source="/headrace/client",
        type="headrace.results.v1",
        subject="job-1",
        time=datetime(2026, 11, 24, 10, 30, tzinfo=timezone(timedelta(hours=1))),
        traceparent=TRACEPARENT,
    )
    assert envelope.headers() == [
        ("ce_specversion", b"1.0"),
        ("ce_id", b"job-1"),
        ("ce_source", b"/headrace/client"),
        ("ce_type", b"headrace.results.v1"),
        ("ce_time", b"2026-11-24T09:30:00Z"),
        ("ce_subject", b"job-1"),
        ("content-type", b"application/json"),
        ("traceparent", TRACEPARENT.encode()),
    ]


@given(st.datetimes(datetime(2, 1, 1), datetime(9998, 1, 1), timezones=st.timezones()))
@settings(deadline=None)
def test_the_time_of_an_envelope_is_in_utc(time: datetime) -> None:
    headers = dict(Envelope(id="", source="", type="", subject="", time=time, traceparent="").headers())
    assert headers["ce_time"].endswith(b"Z")
    assert datetime.fromisoformat(headers["ce_time"].decode()) == time.astimezone(UTC)


def test_a_new_trace_is_its_own() -> None:
    assert trace_id_of(new_traceparent()) != trace_id_of(new_traceparent())


def test_a_child_is_a_new_span_of_its_parents_trace() -> None:
    child = child_traceparent(TRACEPARENT)
    assert trace_id_of(child) == TRACE_ID
    assert child != TRACEPARENT


@pytest.mark.parametrize("parent", ["", "hello", f"00-{TRACE_ID}-00f067aa0ba902b7"])
def test_a_child_of_no_trace_begins_one(parent: str) -> None:
    assert trace_id_of(parent) is None
    assert trace_id_of(child_traceparent(parent)) is not None


@pytest.mark.parametrize(
    "text",
    [
        f"00-{'0' * 32}-00f067aa0ba902b7-01",
        f"00-{TRACE_ID}-{'0' * 16}-01",
        f"ff-{TRACE_ID}-00f067aa0ba902b7-01",
        f"00-{TRACE_ID.upper()}-00f067aa0ba902b7-01",
        f"00-0x{TRACE_ID[2:]}-00f067aa0ba902b7-01",
        f"00-1_{TRACE_ID[2:]}-00f067aa0ba902b7-01",
        f"00- {TRACE_ID[1:]}-00f067aa0ba902b7-01",
        f"00-٣{TRACE_ID[1:]}-00f067aa0ba902b7-01",
        f"{TRACEPARENT}\n",
        f"{TRACEPARENT}0",
    ],
)
def test_what_breaks_the_form_of_trace_context_is_no_traceparent(text: str) -> None:
    assert trace_id_of(text) is None


def test_a_later_version_of_trace_context_may_append_fields() -> None:
    assert trace_id_of(f"01-{TRACE_ID}-00f067aa0ba902b7-01-more") == TRACE_ID


@given(st.text())
def test_any_text_has_a_child(text: str) -> None:
    assert trace_id_of(child_traceparent(text)) is not None


def test_every_field_of_a_dead_letter_has_a_header() -> None:
    assert tuple(HEADERS) == DeadLetter.__struct_fields__
