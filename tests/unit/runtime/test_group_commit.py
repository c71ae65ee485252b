"""Group commit on a database that is a list: who gets which answer, what gathers, who waits, and how it ends."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection

from runtime.database import Database
from runtime.database.group_commit import Bounds, GroupCommit, GroupCommitClosed, Pending, RoomTimeout, writer
from runtime.database.group_commit.pending import ROW_BYTES
from schemas.errors import HeadraceError, ServerUnreachable

SOON_S = 30.0
#: Longer than any test: what ends such a wait is an event.
NEVER_S = 3_600.0


class Refused(HeadraceError):
    """A row that the table does not take."""


class Table:
    """A database with one table of numbers, which refuses negative ones; a transaction is all or nothing."""

    def __init__(self, failures: float = 0) -> None:
        #: How many transactions find nobody.
        self.failures = failures
        self.rows: list[int] = []
        self.batches: list[list[int]] = []
        self.tries = 0
        self.open = threading.Event()
        self.open.set()
        self.entered = threading.Semaphore(0)

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        self.entered.release()
        assert self.open.wait(SOON_S)
        self.tries += 1
        if self.failures:
            self.failures -= 1
            raise ServerUnreachable("Postgres", "here", "it is away")
        known = list(self.rows)
        try:
            yield cast(Connection, None)
        except BaseException:
            self.rows = known
            raise

    def write(self, _connection: Connection, rows: Sequence[int]) -> list[str]:
        """The answer of each row is its text."""
        for row in rows:
            if row < 0:
                raise Refused(f"{row} is below 0")
            self.rows.append(row)
        self.batches.append(list(rows))
        return [str(row) for row in rows]


Open = Callable[..., GroupCommit[int, str]]


@pytest.fixture
def table() -> Table:
    return Table()


@pytest.fixture
def open_commit(table: Table) -> Iterator[Open]:
    """Opens writers to the table, and closes them."""
    opened: list[GroupCommit[int, str]] = []

    def start(bounds: Bounds | None = None, patience_s: float = 0.0, **options: object) -> GroupCommit[int, str]:
        size_bytes = cast(Callable[[int], int], options.get("size_bytes", lambda _row: ROW_BYTES))
        commit: GroupCommit[int, str] = GroupCommit(
            cast(Database, table), table.write, bounds, patience_s=patience_s, size_bytes=size_bytes
        )
        opened.append(commit)
        return commit

    yield start
    table.open.set()
    for commit in opened:
        commit.close(0.0)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "BACKOFF_S", 0.001)


def busy(table: Table, commit: GroupCommit[int, str], row: int = 0) -> Pending[int, str]:
    """Have a transaction run until the table is opened again; the answer of its row."""
    table.open.clear()
    answer = commit.submit(row)
    assert table.entered.acquire(timeout=SOON_S)
    return answer


def test_threads_and_tasks_get_their_own_answers(table: Table, open_commit: Open) -> None:
    commit = open_commit()

    async def tasks() -> list[str]:
        return await asyncio.gather(*(commit.write_async(number) for number in range(500)))

    with ThreadPoolExecutor(8) as pool:
        in_threads = pool.map(commit.write, range(500, 1_000))
        assert asyncio.run(tasks()) == [str(number) for number in range(500)]
        assert list(in_threads) == [str(number) for number in range(500, 1_000)]
    assert sorted(table.rows) == list(range(1_000))
    assert commit.statistics.rows == 1_000
    assert commit.statistics.batches < 1_000


def test_what_gathers_while_a_transaction_runs_is_the_next_one(table: Table, open_commit: Open) -> None:
    commit = open_commit()
    first = busy(table, commit)
    others = [commit.submit(number) for number in range(1, 4)]
    table.open.set()
    assert [answer.result(SOON_S) for answer in (first, *others)] == ["0", "1", "2", "3"]
    assert table.batches == [[0], [1, 2, 3]]


@pytest.mark.parametrize(
    "bounds",
    [Bounds(rows=2, linger_s=NEVER_S), Bounds(size_bytes=2 * ROW_BYTES, linger_s=NEVER_S)],
    ids=["rows", "bytes"],
)
def test_a_batch_is_written_once_it_is_full(table: Table, open_commit: Open, bounds: Bounds) -> None:
    commit = open_commit(bounds)
    answers = [commit.submit(number) for number in range(4)]
    assert [answer.result(SOON_S) for answer in answers] == ["0", "1", "2", "3"]
    assert table.batches == [[0, 1], [2, 3]]


class Lingering:
    """Bounds that tell when the writer begins to wait for company; it holds the buffer's lock until it does."""

    rows = 2
    size_bytes = held_rows = held_bytes = 1_000_000

    def __init__(self) -> None:
        self.begins = threading.Semaphore(0)

    @property
    def linger_s(self) -> float:
        self.begins.release()
        return NEVER_S


def test_a_row_that_fills_the_batch_ends_the_wait_for_company(table: Table, open_commit: Open) -> None:
    bounds = Lingering()
    commit = open_commit(cast(Bounds, bounds))
    first = commit.submit(1)
    assert bounds.begins.acquire(timeout=SOON_S)
    commit.submit(2)
    assert first.result(SOON_S) == "1"
    assert table.batches == [[1, 2]]


def test_a_batch_is_written_once_its_first_row_has_waited(open_commit: Open) -> None:
    assert open_commit(Bounds(linger_s=0.001)).submit(1).result(SOON_S) == "1"


def test_a_row_larger_than_a_batch_goes_alone(table: Table, open_commit: Open) -> None:
    commit = open_commit(Bounds(size_bytes=10, linger_s=NEVER_S, held_bytes=10), size_bytes=lambda row: row)
    answers = [commit.submit(number) for number in (500, 3, 700)]
    commit.close()
    assert [answer.result(SOON_S) for answer in answers] == ["500", "3", "700"]
    assert table.batches == [[500], [3], [700]]


@given(rows=st.lists(st.integers(-3, 20), min_size=1, max_size=40))
@settings(deadline=None, max_examples=50)
def test_a_row_that_is_refused_fails_alone_and_always_the_same_way(rows: list[int]) -> None:
    runs = []
    for _ in range(2):
        table = Table()
        commit = GroupCommit(cast(Database, table), table.write, Bounds(linger_s=NEVER_S))
        answers = [commit.submit(row) for row in rows]
        assert commit.close()
        for row, answer in zip(rows, answers, strict=True):
            if row < 0:
                assert str(answer.exception(0)) == f"{row} is below 0"
            else:
                assert answer.result(0) == str(row)
        assert table.rows == [row for row in rows if row >= 0]
        assert commit.statistics.refused == sum(row < 0 for row in rows)
        runs.append((table.batches, table.tries, commit.statistics))
    assert runs[0] == runs[1]


def test_an_answer_too_few_fails_the_batch_before_it_is_committed(table: Table) -> None:
    def careless(connection: Connection, rows: Sequence[int]) -> list[str]:
        return table.write(connection, rows)[1:]

    commit = GroupCommit(cast(Database, table), careless)
    with pytest.raises(TypeError, match="0 answers for 1 rows"):
        commit.write(1)
    assert table.rows == []
    commit.close()


def test_an_outage_is_told_to_a_caller_without_patience(table: Table, open_commit: Open) -> None:
    table.failures = 1
    commit = open_commit()
    with pytest.raises(ServerUnreachable):
        commit.write(1)
    assert commit.write(2) == "2"
    assert (commit.statistics.lost, commit.statistics.rows) == (1, 1)


def test_an_outage_is_waited_out_by_one_who_has_it(table: Table, open_commit: Open) -> None:
    table.failures = 5
    commit = open_commit(patience_s=NEVER_S)
    assert commit.write(1) == "1"
    assert (commit.statistics.retried, commit.statistics.lost, table.rows) == (5, 0, [1])


def test_patience_ends(table: Table, open_commit: Open) -> None:
    table.failures = float("inf")
    with pytest.raises(ServerUnreachable):
        open_commit(patience_s=1.0).write(1)
    assert table.tries > 1


def test_a_full_buffer_makes_callers_wait_in_turn(table: Table, open_commit: Open) -> None:
    commit = open_commit(Bounds(rows=1, held_rows=2))
    busy(table, commit)
    commit.submit(1)
    with pytest.raises(RoomTimeout, match="2 of them"):
        commit.submit(99, timeout_s=0.0)
    with ThreadPoolExecutor(1) as pool:
        late = pool.submit(commit.write, 2)
        while commit.statistics.waits < 2:
            threading.Event().wait(0.001)
        table.open.set()
        assert late.result(SOON_S) == "2"
    assert table.rows == [0, 1, 2]
    assert commit.statistics.waited_s > 0


def test_who_comes_later_does_not_take_the_room_of_one_who_waits(table: Table, open_commit: Open) -> None:
    """A large row waits for room, of which there is enough for a small one."""
    commit = open_commit(Bounds(rows=1, held_bytes=100), size_bytes=lambda row: row)
    busy(table, commit, 60)
    with ThreadPoolExecutor(2) as pool:
        large = pool.submit(commit.write, 50)
        while commit.statistics.waits < 1:
            threading.Event().wait(0.001)
        small = pool.submit(commit.write, 10)
        while commit.statistics.waits < 2:
            threading.Event().wait(0.001)
        table.open.set()
        assert (large.result(SOON_S), small.result(SOON_S)) == ("50", "10")
    assert table.rows == [60, 50, 10]


def test_a_task_waits_for_room_without_blocking_its_loop(table: Table, open_commit: Open) -> None:
    commit = open_commit(Bounds(rows=1, held_rows=1))
    busy(table, commit)

    async def run() -> str:
        waiting = asyncio.create_task(commit.write_async(1))
        await asyncio.sleep(0)
        assert not waiting.done()
        table.open.set()
        return await waiting

    assert asyncio.run(run()) == "1"


@pytest.mark.parametrize("held_rows", [1, 10], ids=["waits for room", "is in the buffer"])
def test_a_row_whose_task_was_cancelled_in_time_is_not_written(table: Table, open_commit: Open, held_rows: int) -> None:
    commit = open_commit(Bounds(held_rows=held_rows))
    busy(table, commit)

    async def run() -> None:
        task = asyncio.create_task(commit.write_async(1))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    table.open.set()
    assert commit.write(2) == "2"
    assert table.rows == [0, 2]


def test_a_row_that_its_thread_takes_back_in_time_is_not_written(table: Table, open_commit: Open) -> None:
    commit = open_commit()
    busy(table, commit)
    answer = commit.submit(1)
    assert answer.cancel()
    table.open.set()
    assert commit.write(2) == "2"
    with pytest.raises(CancelledError):
        answer.result()
    assert table.rows == [0, 2]


def test_the_answers_of_a_loop_that_is_closed_disturb_nobody(table: Table, open_commit: Open) -> None:
    commit = open_commit()
    busy(table, commit)

    async def begin() -> Coroutine[Any, Any, str]:
        waiting = commit.write_async(1)
        # As far as it goes without its answer.
        waiting.send(None)
        return waiting

    waiting = asyncio.run(begin())
    table.open.set()
    assert commit.write(2) == "2"
    waiting.close()


def test_a_callback_that_finds_no_room_does_not_wait_for_itself(table: Table, open_commit: Open) -> None:
    commit = open_commit(Bounds(held_rows=1))
    found: Future[str] = Future()

    def again(_answer: Pending[int, str]) -> None:
        try:
            commit.submit(2)
        except RoomTimeout as error:
            found.set_exception(error)

    busy(table, commit).add_done_callback(again)
    table.open.set()
    with pytest.raises(RoomTimeout):
        found.result(SOON_S)


def test_close_stores_what_is_here_and_takes_no_more(open_commit: Open) -> None:
    commit = open_commit(Bounds(rows=2, linger_s=NEVER_S))
    answers = [commit.submit(number) for number in range(5)]
    assert commit.close()
    assert [answer.result(0) for answer in answers] == ["0", "1", "2", "3", "4"]
    with pytest.raises(GroupCommitClosed):
        commit.submit(6)


def test_close_lets_those_in_who_wait_for_room(table: Table, open_commit: Open) -> None:
    commit = open_commit(Bounds(held_rows=1))
    busy(table, commit)
    with ThreadPoolExecutor(2) as pool:
        late = pool.submit(commit.write, 1)
        while not commit.statistics.waits:
            threading.Event().wait(0.001)
        closed = pool.submit(commit.close)
        table.open.set()
        assert closed.result(SOON_S)
        assert late.result(SOON_S) == "1"


def test_close_ends_in_its_time_and_tells_those_whose_rows_are_not_stored(table: Table, open_commit: Open) -> None:
    table.failures = float("inf")
    commit = open_commit(Bounds(rows=1, held_rows=2), patience_s=NEVER_S)
    first, second = commit.submit(1), commit.submit(2)
    with ThreadPoolExecutor(1) as pool:
        third = pool.submit(commit.submit, 3)
        while not commit.statistics.waits:
            threading.Event().wait(0.001)
        assert not commit.close(0.05)
        with pytest.raises(ServerUnreachable):
            first.result(SOON_S)
        with pytest.raises(GroupCommitClosed, match="1 rows were not stored"):
            second.result(SOON_S)
        with pytest.raises(GroupCommitClosed):
            third.result(SOON_S)
