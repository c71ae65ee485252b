"""A row on its way, and who waits for its answer."""

import asyncio
import time
from concurrent.futures import Future
from typing import Final, Generic, TypeVar

Row = TypeVar("Row")
Answer = TypeVar("Answer")

#: What a row counts for besides its texts and bytes.
ROW_BYTES: Final = 100


class Entry(Generic[Row, Answer]):
    """A row; a thread waits by a future of its own, a task by one of its ``loop``."""

    __slots__ = ("answer", "loop", "row", "since_s", "size_bytes")

    def __init__(
        self,
        row: Row,
        size_bytes: int,
        answer: Future[Answer] | asyncio.Future[Answer],
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self.row = row
        self.size_bytes = size_bytes
        self.answer = answer
        self.loop = loop
        #: When it was handed in.
        self.since_s = time.monotonic()

    def begins(self) -> bool:
        """Whether it is still wanted; a thread can take it back no more from here on."""
        if isinstance(self.answer, Future):
            return self.answer.set_running_or_notify_cancel()
        return not self.answer.cancelled()

    def settle(self, answer: Answer | Exception) -> None:
        """Give the answer, in the thread of the one who waits for it."""
        if self.answer.done():  # the task was cancelled meanwhile
            return
        if isinstance(answer, Exception):
            self.answer.set_exception(answer)
        else:
            self.answer.set_result(answer)


def size_of(row: object) -> int:
    """About how much memory a row takes: what its texts and bytes do, and a little more."""
    values = row if isinstance(row, (tuple, list)) else (row,)
    return ROW_BYTES + sum([len(value) for value in values if isinstance(value, (str, bytes))])
