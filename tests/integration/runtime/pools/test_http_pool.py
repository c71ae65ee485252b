"""HTTP connections for threads, to real servers."""

import socket
import ssl
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from runtime.pools import PoolClosed, PoolMisused, PoolTimeout
from runtime.pools.http import (
    HostBusy,
    HostDisconnected,
    HostTimeout,
    HostUnreachable,
    HttpLimits,
    HttpPool,
    InvalidHttpRequest,
    RequestRejected,
)
from tests.integration.runtime.pools.http1 import HANG_S, Host
from tests.integration.runtime.pools.http2 import Host2
from tests.unit.runtime.pools.test_forks import WELL, in_child

MakePool = Callable[..., HttpPool]


@pytest.fixture
def make() -> Iterator[MakePool]:
    made: list[HttpPool] = []

    def pool(limits: HttpLimits | None = None, ssl_context: ssl.SSLContext | None = None) -> HttpPool:
        made.append(HttpPool(limits or HttpLimits(), ssl_context))
        return made[-1]

    yield pool
    for each in made:
        each.close(timeout_s=1.0)


def get(pool: HttpPool, url: str, path: str = "/ok") -> bytes:
    with pool.get_connection(url) as connection:
        return connection.get(path).content


def test_a_connection_is_kept_alive_for_the_next_borrower(make: MakePool, host: Host) -> None:
    pool = make()
    for _ in range(5):
        assert get(pool, host.url) == b"/ok"
    assert (host.requests["GET /ok"], host.connections) == (5, 1)


def test_requests_are_below_the_base_and_may_have_a_body(make: MakePool, host: Host) -> None:
    with make().get_connection(f"{host.url}/base") as connection:
        assert connection.get("below?x=1").content == b"/base/below"
    with make().get_connection(host.url) as connection:
        assert connection.post("echo", b"bytes").content == b"bytes"
        assert connection.post("echo", json={"a": 1}).json() == {"a": 1}


def test_a_hosts_limit_bounds_its_borrowers_and_its_connections(make: MakePool, host: Host) -> None:
    pool = make(HttpLimits(per_host=3))
    with ThreadPoolExecutor(12) as threads:
        for done in [threads.submit(get, pool, host.url) for _ in range(60)]:
            assert done.result() == b"/ok"
    assert host.most_together <= 3
    assert host.connections <= 3
    assert pool.stats()[host.url].borrowed == 60


def test_a_host_that_hangs_holds_up_no_other(make: MakePool, host: Host, other_host: Host) -> None:
    pool = make(HttpLimits(per_host=2))
    with ThreadPoolExecutor(2) as threads:
        hanging = [threads.submit(get, pool, host.url, "/hang") for _ in range(2)]
        for _ in hanging:
            host.hung.acquire()
        assert get(pool, other_host.url) == b"/ok"
        with pytest.raises(PoolTimeout, match="2 in use"), pool.get_connection(host.url, timeout_s=0.01):
            pass
        host.resume.set()
        assert [done.result() for done in hanging] == [b"at last"] * 2


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_busy_host_is_asked_again_when_it_says_so(make: MakePool, host: Host, status: int) -> None:
    host.script = [(status, "0"), (status, "")]
    assert get(make(), host.url, "/scripted") == b"scripted"
    assert host.requests["GET /scripted"] == 3


def test_a_busy_host_is_not_asked_before_the_time_it_said(make: MakePool, host: Host) -> None:
    host.script = [(503, "1")]
    began_s = time.monotonic()
    get(make(), host.url, "/scripted")
    assert time.monotonic() - began_s >= 1.0


def test_a_busy_host_is_asked_so_often_and_then_said_to_be_busy(make: MakePool, host: Host) -> None:
    host.script = [(503, "0")] * 10
    with pytest.raises(HostBusy, match=r"status 503: scripted \(3 attempts\)") as busy:
        get(make(HttpLimits(attempts=3)), host.url, "/scripted")
    assert (busy.value.attempts, busy.value.retry_after_s, busy.value.retryable) == (3, 0.0, True)
    assert host.requests["GET /scripted"] == 3


def test_a_wait_beyond_the_deadline_is_an_error_at_once(make: MakePool, host: Host) -> None:
    host.script = [(503, "3600")]
    began_s = time.monotonic()
    with pytest.raises(HostBusy):
        get(make(), host.url, "/scripted")
    assert time.monotonic() - began_s < HANG_S / 2


def test_what_may_not_be_repeated_is_sent_once(make: MakePool, host: Host) -> None:
    host.script = [(503, "0")]
    with make().get_connection(host.url) as connection:
        with pytest.raises(HostBusy):
            connection.post("scripted")
        with pytest.raises(HostDisconnected):
            connection.post("drop")
    assert host.requests["POST /scripted"] == host.requests["POST /drop"] == 1


def test_with_an_idempotency_key_it_may(make: MakePool, host: Host) -> None:
    host.script = [(503, "0")]
    with make().get_connection(host.url) as connection:
        assert connection.post("scripted", headers={"Idempotency-Key": "7"}).content == b"scripted"
    assert host.requests["POST /scripted"] == 2


@pytest.mark.parametrize("path", ["/drop", "/half"])
def test_a_connection_that_breaks_is_replaced_and_the_request_repeated(make: MakePool, host: Host, path: str) -> None:
    with pytest.raises(HostDisconnected):
        get(make(HttpLimits(attempts=2)), host.url, path)
    assert host.requests[f"GET {path}"] == 2


def test_a_host_that_is_away_is_unreachable_whatever_was_asked(make: MakePool) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with make(HttpLimits(attempts=2)).get_connection(url) as connection, pytest.raises(HostUnreachable) as away:
            connection.post("x")
    assert away.value.attempts == 2
    assert away.value.retryable


def test_a_silent_host_ends_with_the_deadline_and_not_later(make: MakePool, host: Host) -> None:
    began_s = time.monotonic()
    with make().get_connection(host.url) as connection, pytest.raises(HostTimeout):
        connection.request("GET", "/hang", deadline_s=0.2)
    assert time.monotonic() - began_s < HANG_S / 2


def test_a_host_that_drips_ends_with_the_deadline(make: MakePool, host: Host) -> None:
    began_s = time.monotonic()
    with make().get_connection(host.url) as connection, pytest.raises(HostTimeout, match="too slowly"):
        connection.request("GET", "/drip", deadline_s=0.2)
    assert time.monotonic() - began_s < HANG_S / 2
    assert host.requests["GET /drip"] == 1


def test_a_rejected_request_is_not_repeated(make: MakePool, host: Host) -> None:
    host.script = [(404, "")]
    with pytest.raises(RequestRejected, match="status 404") as rejected:
        get(make(), host.url, "/scripted")
    assert not rejected.value.retryable
    assert host.requests["GET /scripted"] == 1


def test_one_borrowers_cookies_are_not_the_nexts(make: MakePool, host: Host) -> None:
    pool = make()
    get(pool, host.url)
    get(pool, host.url)
    assert host.cookies == [None, None]


def test_a_place_comes_back_whatever_ends_its_block(make: MakePool, host: Host) -> None:
    pool = make(HttpLimits(per_host=1))
    for _ in range(3):
        with pytest.raises(InvalidHttpRequest), pool.get_connection(host.url, timeout_s=0.0) as connection:
            connection.get("http://another.example")
    get(pool, host.url)
    assert host.connections == 1
    with pytest.raises(PoolMisused, match="outside of its block"):
        connection.get("/ok")


def test_hosts_that_nobody_uses_are_closed_where_there_are_too_many(
    make: MakePool, host: Host, other_host: Host
) -> None:
    pool = make(HttpLimits(hosts=1))
    with pool.get_connection(host.url) as connection:
        get(pool, other_host.url)
        assert set(pool.stats()) == {host.url, other_host.url}  # the first is in use, and stays
        connection.get("/ok")
    get(pool, other_host.url)
    get(pool, host.url)
    assert set(pool.stats()) == {host.url}


def test_what_is_borrowed_for_too_long_is_reported(
    make: MakePool, host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    pool = make(HttpLimits(overdue_s=0.0))
    with pool.get_connection(host.url):
        pool.maintain()
        pool.maintain()
    (record,) = caplog.records
    assert host.url in record.message
    assert "thread 'MainThread' holds a connection" in record.message


def test_a_closed_pool_lends_nothing(make: MakePool, host: Host) -> None:
    pool = make()
    get(pool, host.url)
    assert pool.close()
    with pytest.raises(PoolClosed), pool.get_connection(host.url):
        pass


def test_a_connection_of_a_pool_that_did_not_wait_for_it_says_that_it_is_closed(make: MakePool, host: Host) -> None:
    pool = make()
    with pool.get_connection(host.url) as connection:
        assert not pool.close(timeout_s=0.0)
        with pytest.raises(PoolClosed):
            connection.get("/ok")


def test_a_forked_child_has_connections_of_its_own(make: MakePool, host: Host) -> None:
    pool = make()
    get(pool, host.url)
    with pool.get_connection(host.url) as connection:

        def scenario() -> None:
            assert get(pool, host.url) == b"/ok"
            assert pool.stats()[host.url].created == 1
            assert pool.close()

        assert in_child(scenario) == WELL
        assert connection.get("ok").content == b"/ok"  # the parent's is as it was
    assert host.connections == 2


def test_http2_carries_all_requests_of_a_host_on_one_connection(
    make: MakePool, host2: Host2, contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    pool = make(HttpLimits(per_host=8), contexts[1])
    with pool.get_connection(host2.url) as connection:
        answer = connection.get()
        assert (answer.http_version, answer.content) == ("HTTP/2", b"two")
    host2.together = 8  # it answers none before all have come
    with ThreadPoolExecutor(8) as threads:
        assert [*threads.map(lambda _: get(pool, host2.url), range(8))] == [b"two"] * 8
    assert (host2.connections, host2.requests) == (1, 9)


def test_a_certificate_that_nobody_vouches_for_is_no_connection(make: MakePool, host2: Host2) -> None:
    with pytest.raises(HostUnreachable, match="certificate"):
        get(make(HttpLimits(attempts=1)), host2.url)
