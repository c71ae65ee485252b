"""The pool for threads."""

import gc
import logging
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from runtime.pools import Lent, Limits, Pool, PoolClosed, PoolMisused, PoolOverloaded, PoolTimeout
from tests.unit.runtime.pools.fakes import Clock, Connection, Server

MakePool = Callable[..., Pool[Connection]]
#: For what has to happen in another thread; if it does not, the test fails.
SOON_S = 20.0


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make(server: Server, clock: Clock) -> Iterator[MakePool]:
    """Pools that look after themselves only when told to, unless the limits say otherwise."""
    made: list[Pool[Connection]] = []

    def pool(limits: Limits | None = None, survives: Callable[[BaseException], bool] | None = None) -> Pool[Connection]:
        limits = limits or Limits(size=2, maintain_every_s=None)
        made.append(Pool(server.connect, server.close, limits, check=server.check, survives=survives, now_s=clock))
        return made[-1]

    yield pool
    for each in made:
        each.close(timeout_s=0.0)


def until(seen: Callable[[], bool]) -> None:
    """Wait for what another thread is about to do."""
    end_s = time.monotonic() + SOON_S
    while not seen():
        assert time.monotonic() < end_s, "it never came"
        threading.Event().wait(0.001)


def test_the_connection_that_was_used_last_is_lent_first(make: MakePool) -> None:
    pool = make()
    first, second = pool.borrow(), pool.borrow()
    first.give_back()
    second.give_back()
    with pool.borrow() as connection:
        assert connection is second.connection


def test_a_borrow_that_gets_none_says_who_holds_what(make: MakePool, clock: Clock) -> None:
    pool = make(Limits(size=1, stack_every=1, maintain_every_s=None))
    with pool.borrow():
        clock.now_s += 7
        with pytest.raises(PoolTimeout) as refused:
            pool.borrow(timeout_s=0.01)
    assert "size 1 of 1, 1 in use, 0 idle, 0 waiting" in str(refused.value)
    assert "thread 'MainThread' holds a connection for 7 s" in str(refused.value)
    assert "test_a_borrow_that_gets_none_says_who_holds_what" in str(refused.value)
    assert refused.value.retryable
    assert pool.stats().timeouts == 1


def test_more_than_may_wait_are_refused_at_once(make: MakePool) -> None:
    pool = make(Limits(size=1, waiting=0, maintain_every_s=None))
    with pool.borrow(), pytest.raises(PoolOverloaded, match="lets 0 borrowers wait, and so many do: size 1 of 1"):
        pool.borrow()
    assert pool.stats().refused == 1


def test_who_waits_longest_is_served_first(make: MakePool) -> None:
    pool, served = make(Limits(size=1, maintain_every_s=None)), list[int]()

    def borrower(number: int) -> None:
        with pool.borrow(SOON_S):
            served.append(number)

    held = pool.borrow()
    with ThreadPoolExecutor(8) as threads:
        for number in range(8):
            threads.submit(borrower, number)
            until(lambda waiting=number + 1: pool.stats().waiting == waiting)  # type: ignore[misc]
        held.give_back()
    assert served == list(range(8))
    assert pool.stats().waits.waited == 8


def test_a_newcomer_does_not_overtake_one_that_was_served_but_has_not_run_yet(make: MakePool) -> None:
    pool = make(Limits(size=1, maintain_every_s=None))
    held, got = pool.borrow(), threading.Event()

    def borrower() -> None:
        with pool.borrow(SOON_S):
            got.set()
            leave.wait(SOON_S)

    leave = threading.Event()
    waiting = threading.Thread(target=borrower)
    waiting.start()
    until(lambda: pool.stats().waiting == 1)
    held.give_back()
    with pytest.raises(PoolTimeout):
        pool.borrow(timeout_s=0.0)
    leave.set()
    waiting.join()
    assert got.is_set()


def test_a_failed_creation_gives_its_place_to_the_next_waiter(server: Server) -> None:
    opening, refuse = threading.Event(), threading.Event()

    def connect() -> Connection:
        if not refuse.is_set():
            opening.set()
            refuse.wait(SOON_S)
            raise ConnectionRefusedError
        return server.connect()

    pool = Pool(connect, server.close, Limits(size=1, maintain_every_s=None))
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(pool.borrow)
        opening.wait(SOON_S)
        second = threads.submit(pool.borrow, SOON_S)
        until(lambda: pool.stats().waiting == 1)
        refuse.set()
        assert isinstance(first.exception(SOON_S), ConnectionRefusedError)
        second.result(SOON_S).give_back()
    stats = pool.stats()
    assert (stats.creations_failed, stats.created, stats.size, stats.idle) == (1, 1, 1, 1)
    assert pool.close()


def test_one_that_lay_idle_is_checked_and_replaced_if_it_is_dead(make: MakePool, server: Server, clock: Clock) -> None:
    pool = make()
    with pool.borrow() as connection:
        connection.good = False
    clock.now_s += 0.5
    with pool.borrow() as again:  # just used: not checked
        assert again is connection
    clock.now_s += 1.5
    with pool.borrow() as other:
        assert other is not connection
    assert not connection.open
    assert server.checks == 1
    assert pool.stats().closed == {"invalid": 1}


def test_a_check_that_raises_means_no(server: Server, clock: Clock) -> None:
    def check(_: Connection) -> bool:
        raise OSError("reset")

    pool = Pool(server.connect, server.close, Limits(maintain_every_s=None), check=check, now_s=clock)
    with pool.borrow() as connection:
        pass
    clock.now_s += 2
    with pool.borrow() as other:
        assert other is not connection
    assert pool.close()


def test_one_that_is_too_old_is_replaced_when_it_is_borrowed(make: MakePool, clock: Clock) -> None:
    pool = make(Limits(age_s=100, idle_s=1e9, maintain_every_s=None))
    with pool.borrow() as connection:
        clock.now_s += 89
    with pool.borrow() as again:
        assert again is connection
        clock.now_s += 11
    with pool.borrow() as other:
        assert other is not connection
    assert pool.stats().closed == {"too old": 1}


def test_what_is_idle_for_too_long_is_closed_but_for_the_warm_ones(
    make: MakePool, server: Server, clock: Clock
) -> None:
    pool = make(Limits(size=3, warm=1, idle_s=10, maintain_every_s=None))
    lent = [pool.borrow() for _ in range(3)]
    for one in lent:
        one.give_back()
    clock.now_s += 11
    pool.maintain()
    assert len(server.open) == 1
    assert pool.stats().closed == {"idle too long": 2}


def test_the_warm_minimum_is_opened_and_opened_again(make: MakePool, server: Server) -> None:
    pool = make(Limits(size=3, warm=2, maintain_every_s=None))
    pool.maintain()
    assert len(server.open) == 2
    pool.borrow().discard()
    assert len(server.open) == 1
    pool.maintain()
    assert pool.stats().idle == 2


def test_a_pool_keeps_itself_warm(make: MakePool, server: Server) -> None:
    make(Limits(size=3, warm=2, maintain_every_s=0.01))
    until(lambda: len(server.open) == 2)


def test_a_server_that_is_away_is_asked_again_with_the_next_maintenance(
    make: MakePool, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    server.refusals = 1
    pool = make(Limits(warm=1, maintain_every_s=None))
    pool.maintain()
    assert "no connection to keep warm" in caplog.text
    pool.maintain()
    assert pool.stats().idle == 1


def test_a_connection_that_leaves_its_block_by_an_exception_is_discarded(make: MakePool) -> None:
    pool = make()
    with pytest.raises(KeyError), pool.borrow() as connection:
        raise KeyError
    assert not connection.open
    stats = pool.stats()
    assert (stats.closed, stats.size, stats.in_use) == ({"broken": 1}, 0, 0)


def test_an_exception_that_a_connection_survives_does_not_close_it(make: MakePool) -> None:
    pool = make(survives=lambda error: isinstance(error, KeyError))
    with pytest.raises(KeyError), pool.borrow() as connection:
        raise KeyError
    assert connection.open


def test_a_discarded_place_is_for_the_next_waiter(make: MakePool, server: Server) -> None:
    pool = make(Limits(size=1, maintain_every_s=None))
    held = pool.borrow()
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(pool.borrow, SOON_S)
        until(lambda: pool.stats().waiting == 1)
        held.discard()
        assert waiting.result(SOON_S).connection.number == 2
    assert server.most_open == 1


def test_giving_back_twice_gives_back_once(make: MakePool) -> None:
    pool = make()
    lent = pool.borrow()
    lent.give_back()
    lent.give_back()
    lent.discard()
    assert (pool.stats().idle, pool.stats().size) == (1, 1)


def test_a_connection_that_was_given_back_can_not_be_entered_again(make: MakePool) -> None:
    lent = make().borrow()
    lent.give_back()
    with pytest.raises(PoolMisused, match="given back before"), lent:
        pass


def test_two_threads_that_give_one_connection_back_at_once_give_it_back_once(make: MakePool) -> None:
    pool = make(Limits(size=1, maintain_every_s=None))
    for _ in range(200):
        lent = pool.borrow(timeout_s=0.0)
        with ThreadPoolExecutor(2) as threads:
            for done in [threads.submit(lent.give_back) for _ in range(2)]:
                done.result()
        assert (pool.stats().idle, pool.stats().size) == (1, 1)


def test_a_borrow_that_is_held_too_long_is_reported_once_with_its_stack(
    make: MakePool, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    pool = make(Limits(overdue_s=60, stack_every=1, maintain_every_s=None))
    lent = pool.borrow()
    clock.now_s += 61
    pool.maintain()
    pool.maintain()
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "thread 'MainThread' holds a connection for 61 s, borrowed at" in record.message
    assert "lent = pool.borrow()" in record.message
    assert pool.stats().overdue == 1
    lent.give_back()


def test_without_a_captured_stack_a_report_says_where_the_borrower_is_now(
    make: MakePool, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    pool = make(Limits(overdue_s=60, maintain_every_s=None))
    done = threading.Event()

    def hold_on() -> None:
        with pool.borrow():
            done.wait(SOON_S)

    holder = threading.Thread(target=hold_on)
    holder.start()
    until(lambda: pool.stats().in_use == 1)
    clock.now_s += 61
    pool.maintain()
    done.set()
    holder.join()
    assert "it is now at" in caplog.text
    assert "hold_on" in caplog.text


def test_one_stack_in_so_many_is_captured(make: MakePool) -> None:
    pool = make(Limits(size=4, stack_every=2, maintain_every_s=None))
    lent = [pool.borrow() for _ in range(4)]
    assert sum(1 for held in pool.holdings() if held.stack) == 2
    for one in lent:
        one.give_back()
    assert not pool.holdings()


def test_a_borrow_that_is_dropped_is_closed_and_its_place_comes_free(
    make: MakePool, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    pool = make(Limits(size=1, maintain_every_s=None))
    lent: Lent[Connection] | None = pool.borrow()
    assert lent
    del lent
    gc.collect()
    with pool.borrow(timeout_s=0.0) as connection:
        assert connection.number == 2
    assert "has dropped it without giving it back" in caplog.text
    assert pool.stats().abandoned == 1
    assert server.most_open == 1


def test_close_waits_for_what_is_lent_and_refuses_everybody_else(make: MakePool, server: Server) -> None:
    pool = make(Limits(size=1, maintain_every_s=0.01))
    lent = pool.borrow()
    with ThreadPoolExecutor(2) as threads:
        waiting = threads.submit(pool.borrow, SOON_S)
        until(lambda: pool.stats().waiting == 1)
        closing = threads.submit(pool.close, SOON_S)
        assert isinstance(waiting.exception(SOON_S), PoolClosed)
        with pytest.raises(PoolClosed):
            pool.borrow()
        assert not closing.done()
        lent.give_back()
        assert closing.result(SOON_S)
    assert not server.open


def test_close_gives_up_in_time_and_what_comes_back_later_is_closed(
    make: MakePool, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    pool = make()
    lent = pool.borrow()
    assert not pool.close(timeout_s=0.01)
    assert "1 connections are still lent" in caplog.text
    lent.give_back()
    assert not server.open
    assert pool.close(timeout_s=0.0)


def test_what_is_dropped_while_the_pool_is_being_closed_is_closed(make: MakePool, server: Server) -> None:
    pool = make(Limits(size=1, maintain_every_s=None))
    dropped = [pool.borrow()]

    def is_closed() -> bool:
        try:
            pool.borrow(timeout_s=0.0)
        except PoolTimeout:
            return False
        except PoolClosed:
            return True
        raise AssertionError

    with ThreadPoolExecutor(1) as threads:
        closing = threads.submit(pool.close, SOON_S)
        until(is_closed)
        dropped.clear()
        gc.collect()
        assert closing.result(2 * SOON_S)
    assert not server.open


def test_a_connection_that_does_not_close_is_gone_all_the_same(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    def close(_: Connection) -> None:
        raise OSError("already reset")

    pool = Pool(server.connect, close, Limits(size=1, maintain_every_s=None))
    pool.borrow().discard()
    assert "already reset" in caplog.text
    with pool.borrow(timeout_s=0.0) as connection:
        assert connection.number == 2
    assert pool.close()


def test_an_interrupt_while_waiting_leaves_nothing_behind(make: MakePool, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = make(Limits(size=1, maintain_every_s=None))
    held = pool.borrow()

    class Interrupted:
        """A lock whose second wait ends with Ctrl-C, just after the place was granted."""

        def __init__(self) -> None:
            self.waits = 0

        def acquire(self, timeout: float = -1) -> bool:
            if timeout != -1:
                held.give_back()
                raise KeyboardInterrupt
            return True

        def release(self) -> None:
            pass

        __enter__ = acquire

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr(threading, "Lock", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        pool.borrow()
    monkeypatch.undo()
    assert (pool.stats().idle, pool.stats().waiting, pool.stats().in_use) == (1, 0, 0)


def test_an_interrupt_while_the_pool_opens_a_warm_one_leaves_nothing_behind(server: Server) -> None:
    def interrupted() -> Connection:
        raise KeyboardInterrupt

    connects = iter([interrupted, server.connect])
    pool = Pool(lambda: next(connects)(), server.close, Limits(size=1, warm=1, maintain_every_s=None))
    with pytest.raises(KeyboardInterrupt):
        pool.maintain()
    assert (pool.stats().size, pool.stats().creations_failed) == (0, 1)
    pool.borrow(timeout_s=0.0).give_back()
    assert pool.close()


@pytest.mark.parametrize("seed", range(3))
def test_threads_in_a_crowd_never_share_a_connection_and_lose_no_place(server: Server, seed: int) -> None:
    limits = Limits(size=3, warm=1, timeout_s=SOON_S, idle_s=0.0, check_after_s=0.0, maintain_every_s=0.001)
    pool = Pool(server.connect, server.close, limits, check=server.check)
    users: dict[int, int] = {}

    def borrower(number: int) -> None:
        draw = random.Random(1_000 * seed + number)
        for _ in range(60):
            if draw.random() < 0.05:
                server.refusals = 1
            try:
                lent = pool.borrow(draw.choice((SOON_S, SOON_S, 0.0)))
            except (ConnectionRefusedError, PoolTimeout):
                continue
            connection = lent.connection
            assert connection.open
            assert users.setdefault(connection.number, number) == number
            connection.good = draw.random() < 0.9
            del users[connection.number]
            if draw.random() < 0.1:
                lent.discard()
            else:
                lent.give_back()

    with ThreadPoolExecutor(12) as threads:
        for done in [threads.submit(borrower, number) for number in range(12)]:
            done.result()
    assert server.most_open <= 3
    assert pool.close()
    assert not server.open
    stats = pool.stats()
    assert (stats.size, stats.waiting, stats.created) == (0, 0, sum(stats.closed.values()))
