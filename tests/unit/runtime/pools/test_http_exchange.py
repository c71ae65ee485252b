"""What an HTTP request may do: where it goes, what its failure means, and whether it is sent again."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx2
import pytest

from runtime.pools.http import (
    HostBusy,
    HostDisconnected,
    HostFailed,
    HostTimeout,
    HostUnreachable,
    HttpError,
    InvalidAnswer,
    InvalidHttpRequest,
    RequestRejected,
)
from runtime.pools.http.exchange import (
    BACKOFF_LIMIT_S,
    Retries,
    base_of,
    below,
    checked,
    named,
    origin_of,
    repeatable,
    retry_after_s,
    translated,
)

SENT = [HostTimeout("x", "silent"), HostDisconnected("x", "broken"), HostBusy("x", 503, b"", None)]
FINAL = [HostFailed("x", 500, b""), RequestRejected("x", 404, b""), InvalidAnswer("x", ""), InvalidHttpRequest("x", "")]


def retries(left_s: float = 100.0, *, repeatable: bool = True) -> Retries:
    return Retries(left_s, lambda: 0.0, repeatable=repeatable)


@pytest.mark.parametrize("error", SENT, ids=repr)
def test_what_may_have_been_carried_out_is_sent_again_only_if_it_may_be_carried_out_twice(error: HttpError) -> None:
    assert retries()(error) is not False
    assert retries(repeatable=False)(error) is False
    assert error.retryable


def test_what_was_not_sent_is_sent_again_whatever_it_is() -> None:
    assert retries(repeatable=False)(HostUnreachable("x", "refused")) is not False


@pytest.mark.parametrize("error", [*FINAL, KeyError()], ids=repr)
def test_what_no_repetition_changes_is_not_sent_again(error: Exception) -> None:
    assert retries()(error) is False
    assert not getattr(error, "retryable", False)


def test_waits_grow_to_a_limit() -> None:
    decide = retries(1e9)
    for _ in range(50):
        assert 0.0 <= decide(HostTimeout("x", "")) <= BACKOFF_LIMIT_S


def test_a_host_that_says_when_is_not_asked_earlier() -> None:
    assert 7.0 <= retries()(HostBusy("x", 429, b"", 7.0)) <= 7.2


def test_a_wait_that_would_end_after_the_deadline_is_not_begun() -> None:
    assert retries(left_s=5.0)(HostBusy("x", 429, b"", 7.0)) is False


@pytest.mark.parametrize(
    ("method", "headers", "may"),
    [
        ("get", {}, True),
        ("PUT", {}, True),
        ("DELETE", {}, True),
        ("POST", {}, False),
        ("PATCH", {}, False),
        ("POST", {"Idempotency-Key": "1"}, True),
    ],
)
def test_idempotent_methods_may_be_repeated(method: str, headers: dict[str, str], may: bool) -> None:
    assert repeatable(method, headers) is may


def test_retry_after_is_read_in_both_forms() -> None:
    soon = datetime.now(UTC) + timedelta(seconds=30)
    assert retry_after_s("120") == 120.0
    assert retry_after_s(format_datetime(soon, usegmt=True)) == pytest.approx(30, abs=5)
    assert retry_after_s("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0
    assert retry_after_s("soon") is None
    assert retry_after_s("-5") is None
    assert retry_after_s("") is None
    assert retry_after_s("Mon, 01 Jan 99999999999999999999 00:00:00 GMT") is None


@pytest.mark.parametrize(
    ("path", "url"),
    [
        ("", "http://host/api/"),
        ("models/x?y=1", "http://host/api/models/x?y=1"),
        ("/models", "http://host/api/models"),
        ("//evil.example/x", "http://host/api/evil.example/x"),
        ("@evil.example", "http://host/api/@evil.example"),
        ("x?next=http://evil.example", "http://host/api/x?next=http://evil.example"),
    ],
)
def test_a_path_is_joined_to_its_base(path: str, url: str) -> None:
    assert str(below(base_of("http://host/api/"), path)) == url


@pytest.mark.parametrize("base", ["http://host", "http://host:8080"])
@pytest.mark.parametrize("path", ["@evil.example", ":80@evil.example/", "\\\\evil.example", ".evil.example"])
def test_a_path_below_a_bare_host_never_changes_the_host(base: str, path: str) -> None:
    assert origin_of(below(base_of(base), path)) == base


def test_another_hosts_url_is_no_path() -> None:
    with pytest.raises(InvalidHttpRequest, match="is no path"):
        below(base_of("http://host"), "http://evil.example")


@pytest.mark.parametrize("url", ["", "host/path", "ftp://host", "http://", "http://host?x=1", "http://[::1"])
def test_a_base_is_an_absolute_url(url: str) -> None:
    with pytest.raises(InvalidHttpRequest):
        base_of(url)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (httpx2.ConnectError("refused"), HostUnreachable),
        (httpx2.ConnectTimeout("slow"), HostUnreachable),
        (httpx2.PoolTimeout("full"), HostUnreachable),
        (httpx2.ReadTimeout("slow"), HostTimeout),
        (httpx2.WriteTimeout("slow"), HostTimeout),
        (httpx2.ReadError("reset"), HostDisconnected),
        (httpx2.RemoteProtocolError("closed"), HostDisconnected),
        (httpx2.DecodingError("gzip"), InvalidAnswer),
        (httpx2.LocalProtocolError("header"), InvalidHttpRequest),
        (httpx2.UnsupportedProtocol("ftp"), InvalidHttpRequest),
    ],
)
def test_each_error_of_the_library_is_one_of_ours(error: httpx2.HTTPError, kind: type[HttpError]) -> None:
    ours = translated(error, "GET http://host/")
    assert type(ours) is kind
    assert str(error) in str(ours)


@pytest.mark.parametrize(
    ("status", "kind"),
    [(429, HostBusy), (502, HostBusy), (503, HostBusy), (504, HostBusy), (500, HostFailed), (404, RequestRejected)],
)
def test_an_error_status_is_an_error_that_shows_the_answer(status: int, kind: type[HttpError]) -> None:
    with pytest.raises(kind, match=f"GET http://host/: status {status}: no luck") as refused:
        checked(httpx2.Response(status, content=b"no luck"), "GET http://host/")
    assert type(refused.value) is kind


def test_other_statuses_are_answers() -> None:
    assert checked(httpx2.Response(302), "x").status_code == 302


def test_messages_show_neither_passwords_nor_tokens() -> None:
    base = base_of("https://user:secret@host/api")
    assert named("GET", below(base, "x?token=secret")) == "GET https://host/api/x"
    with pytest.raises(InvalidHttpRequest) as no_path:
        below(base, "http://evil.example")
    with pytest.raises(InvalidHttpRequest) as no_base:
        base_of("ftp://user:secret@host")
    assert "secret" not in f"{no_path.value} {no_base.value}"
