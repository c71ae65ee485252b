"""Rows that wait for a transaction, within bounds; who finds no room waits in turn."""

import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Generic

from msgspec import Struct

from runtime.database.group_commit.pending import Answer, Pending, Row
from schemas.errors import HeadraceError


class RoomTimeout(HeadraceError):
    """As many rows as are allowed wait for Postgres, and none left in the caller's time (retryable)."""

    code = "group_commit_full"
    retryable = True


class GroupCommitClosed(HeadraceError):
    """The writer was closed before the row was stored."""

    code = "group_commit_closed"


class Bounds(Struct, frozen=True):
    """How much a transaction takes, how long its first row waits for company, and how much may be held in all.

    Rows are held from when they come in until they are answered. A batch or a buffer takes at least one row, however
    large that is.
    """

    rows: int = 2_000
    size_bytes: int = 8 * 1024**2
    linger_s: float = 0.002
    held_rows: int = 20_000
    held_bytes: int = 64 * 1024**2


class Buffer(Generic[Row, Answer]):
    """Filled by any thread, emptied by one."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._changed = threading.Condition(threading.Lock())
        self._waiting: deque[Pending[Row, Answer]] = deque()
        self._waiting_bytes = 0
        #: Those that have no room yet, with what tells when they have come in.
        self._line: deque[tuple[Future[None], Pending[Row, Answer]]] = deque()
        self._held_rows = 0
        self._held_bytes = 0
        self._closed = False
        #: Callers that found no room, and the time that they waited for it.
        self.waits = 0
        self.waited_s = 0.0

    def enter(self, pending: Pending[Row, Answer]) -> Future[None] | None:
        """Take a row; where there is no room for it, what tells when it has come in. Cancelled before, it never does.

        Raises:
            GroupCommitClosed: nothing comes in any more.
        """
        with self._changed:
            if self._closed:
                raise GroupCommitClosed("The writer is closed and takes no more rows. Open another one.")
            # Who came before comes in before.
            if not self._line and self._has_room(pending):
                self._put(pending)
                return None
            self.waits += 1
            room: Future[None] = Future()
            self._line.append((room, pending))
            # No company comes any more for those that are here.
            self._changed.notify()
            return room

    def await_room(self, room: Future[None], timeout_s: float | None) -> None:
        """Wait until the row has come in.

        Raises:
            RoomTimeout: there was no room in this time (retryable).
            GroupCommitClosed: nothing comes in any more.
        """
        try:
            room.result(timeout_s)
        except TimeoutError:
            # Where it can't be cancelled it has just come in.
            if room.cancel():
                raise RoomTimeout(
                    f"Rows of {self._held_bytes / 1024**2:.3g} MiB wait for Postgres, {self._held_rows:,} of them, and "
                    f"there was no room for another within {timeout_s:g} s. Wait, and repeat this."
                ) from None

    def gathered(self) -> list[Pending[Row, Answer]]:
        """The next batch, once it is full or its first row has waited; none when all is done."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            while self._waiting and not self._closed and not self._is_full():
                left_s = self._waiting[0].since_s + self._bounds.linger_s - time.monotonic()
                if left_s <= 0 or not self._changed.wait(left_s):
                    break
            return self._taken()

    def leave(self, batch: Sequence[Pending[Row, Answer]]) -> None:
        """Give the batch's room to those who wait for it, in turn."""
        now_s = time.monotonic()
        with self._changed:
            self._held_rows -= len(batch)
            self._held_bytes -= sum(pending.size_bytes for pending in batch)
            while self._line and self._has_room(self._line[0][1]):
                room, pending = self._line.popleft()
                if room.set_running_or_notify_cancel():
                    self.waited_s += now_s - pending.since_s
                    self._put(pending)
                    room.set_result(None)

    def close(self) -> None:
        """Let nothing more come in; who waits for room still does. Batches no longer wait for company."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def give_up(self) -> list[Pending[Row, Answer]]:
        """Forget what is here, and tell those who wait for room; the rows that had come in."""
        with self._changed:
            rest, line = list(self._waiting), list(self._line)
            self._waiting.clear()
            self._line.clear()
        for room, _ in line:
            if room.set_running_or_notify_cancel():
                room.set_exception(GroupCommitClosed("The writer was closed before it had room. Open another one."))
        return rest

    def _has_room(self, pending: Pending[Row, Answer]) -> bool:
        fits = self._held_bytes + pending.size_bytes <= self._bounds.held_bytes
        return not self._held_rows or (fits and self._held_rows < self._bounds.held_rows)

    def _put(self, pending: Pending[Row, Answer]) -> None:
        self._waiting.append(pending)
        self._waiting_bytes += pending.size_bytes
        self._held_rows += 1
        self._held_bytes += pending.size_bytes
        if len(self._waiting) == 1 or self._is_full():
            self._changed.notify()

    def _is_full(self) -> bool:
        """Whether a whole batch is here, or nothing more can come."""
        bounds = self._bounds
        enough = len(self._waiting) >= bounds.rows or self._waiting_bytes >= bounds.size_bytes
        return enough or bool(self._line)

    def _taken(self) -> list[Pending[Row, Answer]]:
        batch: list[Pending[Row, Answer]] = []
        size_bytes = 0
        while self._waiting and len(batch) < self._bounds.rows:
            size_bytes += self._waiting[0].size_bytes
            if batch and size_bytes > self._bounds.size_bytes:
                break
            batch.append(self._waiting.popleft())
            self._waiting_bytes -= batch[-1].size_bytes
        return batch
