"""The thread that commits what has gathered, and answers everybody."""

import asyncio
import logging
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final, Generic

from msgspec import Struct
from sqlalchemy import Connection

from runtime.database.engine import Database
from runtime.database.group_commit.buffer import Bounds, Buffer, GroupCommitClosed
from runtime.database.group_commit.pending import Answer, Pending, Row, answer_all, begun, size_of
from runtime.database.group_commit.refusals import concerns_all, refusal
from runtime.database.thread import BACKOFF_LIMIT_S, BACKOFF_S
from schemas.errors import ServerUnreachable

log = logging.getLogger(__name__)

CLOSE_S: Final = 10.0


class Statistics(Struct, frozen=True):
    """What a writer did since its start."""

    #: Transactions that were committed, and their rows.
    batches: int
    rows: int
    #: Rows that were not stored: for their own fault, and for Postgres was away.
    refused: int
    lost: int
    #: Batches that were halved to find the row at fault, and those that were tried again.
    halved: int
    retried: int
    #: Callers that found no room, and the time that they waited for it.
    waits: int
    waited_s: float


class GroupCommit(Generic[Row, Answer]):
    """Commits rows in groups; every method may be called from any thread.

    1. ``write`` gets a batch inside a transaction and returns an answer a row. A crash before the commit: nothing is
       stored, and nobody was answered.
    2. The transaction is committed. A crash after it: all is stored, and nobody knows.
    3. Each caller gets the answer of its row.

    ``patience_s`` is for how long, from when it was handed in, a row is tried again while Postgres is away; it is tried
    once in any case. As the answer of a commit may have been lost, ``write`` has to bear being repeated where this is
    not 0. A row that takes longer than a statement may, alone, counts as refused.
    """

    def __init__(
        self,
        database: Database,
        write: Callable[[Connection, Sequence[Row]], Sequence[Answer]],
        bounds: Bounds | None = None,
        *,
        patience_s: float = 0.0,
        size_bytes: Callable[[Row], int] = size_of,
    ) -> None:
        self._database = database
        self._write = write
        self._patience_s = patience_s
        self._size = size_bytes
        self._buffer: Buffer[Row, Answer] = Buffer(bounds or Bounds())
        #: Guards all answers, and tells who waits for one.
        self._answered = threading.Condition(threading.Lock())
        self._given_up = threading.Event()
        self._batches = self._rows = self._refused = self._lost = self._halved = self._retried = 0
        self._thread = threading.Thread(target=self._run, name="group-commit", daemon=True)
        self._thread.start()

    @property
    def statistics(self) -> Statistics:
        """What it did so far."""
        return Statistics(
            self._batches, self._rows, self._refused, self._lost, self._halved, self._retried,
            self._buffer.waits, self._buffer.waited_s,
        )  # fmt: skip

    def submit(self, row: Row, timeout_s: float | None = None) -> Pending[Row, Answer]:
        """Hand in a row; its answer comes once it is committed, or its error. Cancelled in time, it is not written.

        Waits where the buffer is full, at most ``timeout_s``; not at all where that is 0.

        Raises:
            RoomTimeout: there was no room in that time (retryable).
            GroupCommitClosed: it takes no more.
        """
        pending: Pending[Row, Answer] = Pending(self._answered, row, self._size(row))
        if room := self._buffer.enter(pending):
            # The callback of an answer would wait for itself.
            is_ours = threading.current_thread() is self._thread
            self._buffer.await_room(room, 0.0 if is_ours else timeout_s)
        return pending

    def write(self, row: Row) -> Answer:
        """Store a row, and wait for that; the answer.

        Raises:
            GroupCommitClosed: it takes no more, or was closed before it could store this.
            ServerUnreachable: Postgres is away; whether the row was stored is not known (retryable).
            Exception: what Postgres or the given ``write`` has against this row (final).
        """
        return self.submit(row).result()

    async def write_async(self, row: Row) -> Answer:
        """As ``write``, for a task: its loop is never blocked. Cancelled in time, the row is not written."""
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        room = self._buffer.enter(Pending(self._answered, row, self._size(row), answer))
        try:
            if room:
                await asyncio.wrap_future(room)
            return await answer
        finally:
            # It may have come in just when this task was cancelled.
            answer.cancel()

    def close(self, timeout_s: float = CLOSE_S) -> bool:
        """Take no more, and store what is here; whether that was done in this time. The rest ends as closed.

        What is being written by then is answered when Postgres answers.
        """
        self._buffer.close()
        self._thread.join(timeout_s)
        self._given_up.set()
        rest = begun(self._buffer.give_up(), self._answered)
        error = GroupCommitClosed(f"{len(rest)} rows were not stored within {timeout_s:g} s. Hand them in again.")
        self._answer(rest, [error] * len(rest))
        return not rest and not self._thread.is_alive()

    def _run(self) -> None:
        while batch := self._buffer.gathered():
            self._commit(begun(batch, self._answered))
            self._buffer.leave(batch)

    def _commit(self, batch: Sequence[Pending[Row, Answer]]) -> None:
        """Store a batch. One that is refused is halved until the row at fault is alone: always the same halves."""
        if not batch:
            return
        try:
            answers = self._insist(batch)
        except ServerUnreachable as error:
            self._lost += len(batch)
            self._answer(batch, [error] * len(batch))
        except Exception as error:  # whatever is wrong with one row must not take its neighbours along
            if len(batch) == 1 or concerns_all(error):
                self._refused += len(batch)
                self._answer(batch, [error] * len(batch))
                return
            self._halved += 1
            middle = len(batch) // 2
            self._commit(batch[:middle])
            self._commit(batch[middle:])
        else:
            self._batches += 1
            self._rows += len(batch)
            self._answer(batch, answers)

    def _insist(self, batch: Sequence[Pending[Row, Answer]]) -> Sequence[Answer]:
        """One transaction, tried again while Postgres is away and the first row has patience."""
        rows = [pending.row for pending in batch]
        backoffs = _backoffs()
        while True:
            try:
                return self._transaction(rows)
            except ServerUnreachable as error:
                if reason := refusal(error):
                    raise reason from None
                wait_s = next(backoffs)
                if time.monotonic() + wait_s > batch[0].since_s + self._patience_s:
                    raise
                log.warning("%s Trying %d rows again in %.1f s.", error, len(rows), wait_s)
                self._retried += 1
                if self._given_up.wait(wait_s):
                    raise

    def _transaction(self, rows: Sequence[Row]) -> Sequence[Answer]:
        with self._database.begin() as connection:
            answers = self._write(connection, rows)
            if len(answers) != len(rows):
                raise TypeError(f"{self._write} gave {len(answers)} answers for {len(rows)} rows")
        return answers

    def _answer(self, batch: Sequence[Pending[Row, Answer]], answers: Sequence[Answer | Exception]) -> None:
        answer_all(batch, answers, self._answered)


def _backoffs() -> Iterator[float]:
    """Waits in seconds, each double the one before; with jitter, so that the processes do not all come back at once."""
    backoff_s = BACKOFF_S
    while True:
        yield backoff_s * random.uniform(0.5, 1.0)
        backoff_s = min(2 * backoff_s, BACKOFF_LIMIT_S)
