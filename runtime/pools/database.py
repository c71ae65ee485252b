"""SQLAlchemy's own pool, with the statistics of ours: it lends as before, and is only watched."""

import threading
import time
import weakref
from collections import Counter
from contextlib import suppress
from threading import get_ident
from typing import Any, Final

from sqlalchemy import Engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.exc import TimeoutError as NoneCameFree
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool
from sqlalchemy.util.queue import Empty

from runtime.pools.errors import Holding, PoolTimeout, occupied
from runtime.pools.holders import named
from runtime.pools.stats import PoolStats, Reason, Waits

NAME: Final = "database"
#: Under which an entry keeps the moment at which its connection was opened.
OPENED_S: Final = "opened_s"
#: Under which an entry keeps who has it.
USE: Final = "use"


class NoConnection(PoolTimeout, NoneCameFree):  # type: ignore[misc]  # both have a ``code``, of different kinds
    """No connection came free in time (retryable): ours, and SQLAlchemy's for those who expect what its pools raise."""

    __str__ = Exception.__str__  # SQLAlchemy's would add a link to its own explanation of the code


class Use:
    """What one entry of the pool is used for: an entry is one thread's at a time, so this needs no lock."""

    __slots__ = ("borrowed", "entry", "holder", "since_s")

    def __init__(self, entry: ConnectionPoolEntry) -> None:
        #: The pool drops an entry that has no connection without a word to anybody.
        self.entry = weakref.ref(entry)
        self.borrowed = 0
        self.holder: int | None = None
        self.since_s = 0.0


class Book:
    """What was seen of an engine's pool; it outlives the pool, which ``Engine.dispose`` replaces."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.uses: set[Use] = set()
        self.waits = Waits()
        self.closed: Counter[Reason] = Counter()
        self.borrowed_before = self.waited = self.waiting = self.created = self.timeouts = 0
        self.disposing = False

    @property
    def borrowed(self) -> int:
        """Borrows so far, those by entries that are gone among them."""
        return self.borrowed_before + sum(use.borrowed for use in self.uses)

    def add(self, use: Use) -> None:
        """One more; of those whose entry is gone, only the sum is kept."""
        gone = {each for each in self.uses if each.entry() is None}
        self.borrowed_before += sum(each.borrowed for each in gone)
        self.uses -= gone
        self.uses.add(use)


class WatchedQueuePool(QueuePool):
    """A ``QueuePool`` that knows who holds its connections and how long others waited: an engine's ``poolclass``."""

    # Under SQLAlchemy's name, so that whoever wants to hear of its pools hears of this one, and nobody else does.
    _sqla_logger_namespace = "sqlalchemy.pool.impl.WatchedQueuePool"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.book = Book()

    def recreate(self) -> QueuePool:
        """The pool that follows this one goes on with its book."""
        successor = super().recreate()
        assert isinstance(successor, WatchedQueuePool)
        successor.book = self.book
        return successor

    def dispose(self) -> None:
        """As ``QueuePool.dispose``."""
        self.book.disposing = True
        try:
            super().dispose()
        finally:
            self.book.disposing = False

    def stats(self) -> PoolStats:
        """The pool's numbers of this moment; connections beyond the pool's own size are closed as ``surplus``."""
        idle, in_use, book = self.checkedin(), self.checkedout(), self.book
        with book.lock:
            return PoolStats(
                name=NAME,
                limit=self.size() + self._max_overflow,
                size=idle + in_use,
                idle=idle,
                in_use=in_use,
                waiting=book.waiting,
                borrowed=book.borrowed,
                created=book.created,
                closed=dict(book.closed),
                timeouts=book.timeouts,
                waits=book.waits.stats(book.borrowed - book.waited),
            )

    def holdings(self) -> list[Holding]:
        """Who holds a connection, and for how long; longest first."""
        now_s = time.monotonic()
        with self.book.lock:
            held = sorted((use.since_s, use.holder) for use in self.book.uses if use.holder is not None)
        return [Holding(named(holder), now_s - since_s) for since_s, holder in held]

    def _do_get(self) -> ConnectionPoolEntry:
        try:
            # Only where all that may be are open, somebody may have to wait: elsewhere nothing is timed.
            entry = self._get_in_turn() if self._overflow >= self._max_overflow >= 0 else super()._do_get()
        except NoConnection:  # from here, by way of the base class, which calls this again
            raise
        except NoneCameFree as error:
            with self.book.lock:
                self.book.timeouts += 1
            raise NoConnection(NAME, self.timeout(), occupied(self.stats()), self.holdings()) from error
        use = self._use_of(entry)
        if use.holder is None:  # else it comes from here, by way of the base class, which calls this again
            use.borrowed += 1
            use.holder = get_ident()
            use.since_s = time.monotonic()
        return entry

    def _do_return_conn(self, record: ConnectionPoolEntry) -> None:
        self._use_of(record).holder = None
        super()._do_return_conn(record)

    def _get_in_turn(self) -> ConnectionPoolEntry:
        # Tried, not looked at: what is seen idle may be another thread's before it is taken.
        with suppress(Empty):
            return self._pool.get(block=False)
        book, began_s = self.book, time.monotonic()
        with book.lock:
            book.waiting += 1
        entry = None
        try:
            entry = super()._do_get()
        finally:
            with book.lock:
                book.waiting -= 1
                book.waits.add(time.monotonic() - began_s)
                book.waited += entry is not None
        return entry

    def _use_of(self, entry: ConnectionPoolEntry) -> Use:
        info = entry.record_info
        assert info is not None
        use: Use | None = info.get(USE)
        return use or self._first_use(entry, info)

    def _first_use(self, entry: ConnectionPoolEntry, info: dict[Any, Any]) -> Use:
        use = info[USE] = Use(entry)
        with self.book.lock:
            self.book.add(use)
        return use


class DatabasePool:
    """The statistics of an engine whose ``poolclass`` is ``WatchedQueuePool``."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._broken: dict[int, Reason] = {}
        event.listen(engine, "connect", self._opened)
        event.listen(engine, "invalidate", self._invalidated)
        event.listen(engine, "close", self._closed)

    def stats(self) -> PoolStats:
        """The pool's numbers of this moment, and since the engine was made."""
        return self._pool().stats()

    def holdings(self) -> list[Holding]:
        """Who holds a connection, and for how long."""
        return self._pool().holdings()

    def _pool(self) -> WatchedQueuePool:
        pool = self._engine.pool
        assert isinstance(pool, WatchedQueuePool)
        return pool

    def _opened(self, _connection: DBAPIConnection, entry: ConnectionPoolEntry) -> None:
        book = self._pool().book
        entry.info[OPENED_S] = time.monotonic()
        with book.lock:
            book.created += 1

    def _invalidated(
        self, connection: DBAPIConnection, _entry: ConnectionPoolEntry, error: BaseException | None
    ) -> None:
        # It is closed right after this. A DisconnectionError comes from a check before it was lent.
        self._broken[id(connection)] = "invalid" if isinstance(error, DisconnectionError) else "broken"

    def _closed(self, connection: DBAPIConnection, entry: ConnectionPoolEntry) -> None:
        book = self._pool().book
        use = entry.record_info.get(USE) if entry.record_info else None
        reason = self._broken.pop(id(connection), None) or self._why_closed(entry, use, book)
        with book.lock:
            book.closed[reason] += 1

    def _why_closed(self, entry: ConnectionPoolEntry, use: Use | None, book: Book) -> Reason:
        if book.disposing:
            return "pool closed"
        if use is None or use.holder is None:
            return "surplus"
        # A borrower has it, so it was replaced as it was lent: it is too old, or as old as one that was found dead.
        age_s = time.monotonic() - entry.info.get(OPENED_S, 0.0)
        return "too old" if age_s > self._recycle_s() else "invalid"

    def _recycle_s(self) -> float:
        recycle_s = self._pool()._recycle
        return recycle_s if recycle_s > -1 else float("inf")
