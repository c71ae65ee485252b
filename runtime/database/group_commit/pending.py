"""A row on its way, and the answer that its sender waits for.

As ``concurrent.futures.Future``, but all of one writer's share a lock, which a batch takes once: a future has a lock, a
condition and two lists of its own, and took longer to make than its row took to be stored.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from enum import Enum
from typing import Final, Generic, TypeVar, cast

Row = TypeVar("Row")
Answer = TypeVar("Answer")

log = logging.getLogger(__name__)

#: What a row counts for besides its texts and bytes.
ROW_BYTES: Final = 100


class _State(Enum):
    WAITS = "waits"
    #: Its batch is being written.
    BEGUN = "begun"
    CANCELLED = "cancelled"
    DONE = "done"


class Pending(Generic[Row, Answer]):
    """A row that was handed in; ``task`` is what a task waits for instead."""

    __slots__ = ("_answer", "_callbacks", "_changed", "_state", "row", "since_s", "size_bytes", "task")

    def __init__(
        self, changed: threading.Condition, row: Row, size_bytes: int, task: asyncio.Future[Answer] | None = None
    ) -> None:
        self._changed = changed
        self._state = _State.WAITS
        self._answer: Answer | Exception | None = None
        self._callbacks: list[Callable[[Pending[Row, Answer]], None]] | None = None
        self.row = row
        self.size_bytes = size_bytes
        self.task = task
        #: When it was handed in.
        self.since_s = time.monotonic()

    def done(self) -> bool:
        """Whether there is an answer, or will be none."""
        return self._state in (_State.DONE, _State.CANCELLED)

    def cancel(self) -> bool:
        """Take the row back; False where its batch has begun."""
        with self._changed:
            if self._state is _State.WAITS:
                self._state = _State.CANCELLED
                self._changed.notify_all()
        return self._state is _State.CANCELLED

    def exception(self, timeout_s: float | None = None) -> Exception | None:
        """Wait for the answer; why the row was not stored, None where it was.

        Raises:
            TimeoutError: there is none in this time.
            CancelledError: the row was taken back.
        """
        if self._state is not _State.DONE:
            self._wait(timeout_s)
        return self._answer if isinstance(self._answer, Exception) else None

    def result(self, timeout_s: float | None = None) -> Answer:
        """Wait for the answer.

        Raises:
            TimeoutError: there is none in this time.
            CancelledError: the row was taken back.
            Exception: why it was not stored.
        """
        if error := self.exception(timeout_s):
            raise error
        return cast(Answer, self._answer)

    def add_done_callback(self, call: "Callable[[Pending[Row, Answer]], None]") -> None:
        """Have this called with the answer, in the writer's thread, or here and now where there is one already."""
        with self._changed:
            if self._state is not _State.DONE:
                self._callbacks = [*(self._callbacks or ()), call]
                return
        call(self)

    def _wait(self, timeout_s: float | None) -> None:
        with self._changed:
            if not self._changed.wait_for(self.done, timeout_s):
                raise TimeoutError(f"no answer within {timeout_s:g} s")
        if self._state is _State.CANCELLED:
            raise CancelledError

    def _begins(self) -> bool:
        if self._state is _State.WAITS and not (self.task and self.task.cancelled()):
            self._state = _State.BEGUN
        return self._state is _State.BEGUN

    def _settle(self, answer: Answer | Exception) -> None:
        self._answer = answer
        self._state = _State.DONE

    def _tell(self) -> None:
        """Call back, in the thread of the one who waits."""
        if self.task and not self.task.done():
            if isinstance(self._answer, Exception):
                self.task.set_exception(self._answer)
            else:
                self.task.set_result(cast(Answer, self._answer))
        for call in self._callbacks or ():
            try:
                call(self)
            except Exception:  # as Future does: what a stranger does with an answer must not end the writer
                log.exception("The callback of a row's answer has failed.")


def begun(batch: Sequence[Pending[Row, Answer]], changed: threading.Condition) -> list[Pending[Row, Answer]]:
    """Those that are still wanted; nobody can take them back from here on."""
    with changed:
        return [pending for pending in batch if pending._begins()]


def answer_all(
    batch: Sequence[Pending[Row, Answer]], answers: Sequence[Answer | Exception], changed: threading.Condition
) -> None:
    """Answer threads at once, and the tasks of each loop there, by one call."""
    with changed:
        for pending, answer in zip(batch, answers, strict=True):
            pending._settle(answer)
        changed.notify_all()
    tasks: dict[asyncio.AbstractEventLoop, list[Pending[Row, Answer]]] = {}
    for pending in batch:
        if pending.task:
            tasks.setdefault(pending.task.get_loop(), []).append(pending)
        elif pending._callbacks:
            pending._tell()
    for loop, group in tasks.items():
        try:
            loop.call_soon_threadsafe(_tell_all, group)
        except RuntimeError:
            log.debug("The loop of %d rows was closed, so nobody waits for their answers.", len(group))


def _tell_all(batch: Sequence[Pending[Row, Answer]]) -> None:
    for pending in batch:
        pending._tell()


def size_of(row: object) -> int:
    """About how much memory a row takes: what its texts and bytes do, and a little more."""
    values = row if isinstance(row, (tuple, list)) else (row,)
    return ROW_BYTES + sum([len(value) for value in values if isinstance(value, (str, bytes))])
