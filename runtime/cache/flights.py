"""One load for all who want the same value, threads and asyncio's tasks alike."""

import asyncio
import threading
from collections.abc import Set
from concurrent.futures import Future

from runtime.cache.entries import Entry


class Abandoned(Exception):
    """Whoever was loading has stopped without a value and without an error of the loader's: somebody else may."""


class Flight:
    """A load under way. ``doomed`` once what it loads has been invalidated: then nobody new joins, and none keeps it.

    ``task`` is the task that leads it, if one does; else the thread does. ``doomed`` and ``join`` belong to the lock
    of the memory tier that made it: once it is out of that one's table, nobody joins.
    """

    def __init__(self, name: str, dependencies: tuple[str, ...], task: "asyncio.Task[object] | None" = None) -> None:
        self.name = name
        self.doomed = False
        self._dependencies = dependencies
        self._thread = threading.get_ident()
        self._task = task
        #: Made by the first who joins: most loads have nobody who waits.
        self._outcome: Future[Entry] | None = None

    def depends_on(self, names: Set[str]) -> bool:
        """Whether one of the names is its own or one that it depends on."""
        return self.name in names or not names.isdisjoint(self._dependencies)

    def is_of_this_thread(self) -> bool:
        """Whether to block this thread for it would be to wait for ever, for this thread is to end it."""
        return self._thread == threading.get_ident()

    def is_of_this_task(self) -> bool:
        """Whether to await it would be to wait for ever: this task is to end it, or the thread below its loop."""
        return self.is_of_this_thread() and self._task in (None, asyncio.current_task())

    def join(self) -> None:
        """Have it tell its outcome."""
        if self._outcome is None:
            self._outcome = Future()
            # From here on nobody who waits can cancel it for the others.
            self._outcome.set_running_or_notify_cancel()

    def succeed(self, entry: Entry) -> None:
        """Give everybody who waits the value; to be called once it is out of the table."""
        if self._outcome:
            self._outcome.set_result(entry)

    def fail(self, error: BaseException) -> None:
        """Give everybody who waits the error of the loader; a cancellation is not theirs, and so they try again."""
        if self._outcome:
            self._outcome.set_exception(error if isinstance(error, Exception) else Abandoned())

    def wait(self) -> Entry:
        """The value, once it is there, for who has joined.

        Raises:
            Abandoned: nobody loads it any more.
            Exception: what the loader raised.
        """
        assert self._outcome, "who waits has joined"
        return self._outcome.result()

    async def wait_async(self) -> Entry:
        """The same for a task."""
        assert self._outcome, "who waits has joined"
        return await asyncio.wrap_future(self._outcome)
