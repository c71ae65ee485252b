"""SQLAlchemy's own pool, with the statistics of ours: it lends as before, and is only watched."""

import threading
import time
from collections import Counter
from threading import get_ident
from typing import Any, Final

from sqlalchemy import Engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.exc import TimeoutError as NoneCameFree
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection, QueuePool

from runtime.pools.errors import Holding, PoolTimeout, occupied
from runtime.pools.holders import named
from runtime.pools.stats import PoolStats, Reason, Waits

NAME: Final = "database"
#: Under which an entry keeps the moment at which its connection was opened.
OPENED_S: Final = "opened_s"


class Book:
    """What was seen of an engine's pool; it outlives the pool, which ``Engine.dispose`` replaces."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        #: Who has which connection, and since when.
        self.holders: dict[ConnectionPoolEntry, tuple[int, float]] = {}
        self.waits = Waits()
        self.closed: Counter[Reason] = Counter()
        self.borrowed = self.waited = self.waiting = self.created = self.timeouts = 0
        self.disposing = False


class WatchedQueuePool(QueuePool):
    """A ``QueuePool`` that knows who holds its connections and how long others waited: an engine's ``poolclass``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.book = Book()

    def connect(self) -> PoolProxiedConnection:
        """As ``QueuePool.connect``.

        Raises:
            PoolTimeout: none came free in the pool's time (retryable).
        """
        # Only where all that may be are open, somebody may have to wait: elsewhere not even the clock is read.
        if self._overflow < self._max_overflow or self._max_overflow < 0 or self.checkedin():
            connection = super().connect()
            with self.book.lock:
                self.book.borrowed += 1
            return connection
        return self._connect_in_turn()

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
        held = sorted(list(self.book.holders.values()), key=lambda holder: holder[1])
        return [Holding(named(holder), now_s - since_s) for holder, since_s in held]

    def _connect_in_turn(self) -> PoolProxiedConnection:
        book, began_s = self.book, time.monotonic()
        with book.lock:
            book.waiting += 1
        connection = None
        try:
            connection = super().connect()
        except NoneCameFree as error:
            with book.lock:
                book.timeouts += 1
            raise PoolTimeout(NAME, self.timeout(), occupied(self.stats()), self.holdings()) from error
        finally:
            with book.lock:
                book.waiting -= 1
                book.waits.add(time.monotonic() - began_s)
                if connection is not None:
                    book.borrowed += 1
                    book.waited += 1
        return connection

    def _do_get(self) -> ConnectionPoolEntry:
        entry = super()._do_get()
        self.book.holders[entry] = (get_ident(), time.monotonic())
        return entry

    def _do_return_conn(self, record: ConnectionPoolEntry) -> None:
        self.book.holders.pop(record, None)
        super()._do_return_conn(record)


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
        reason = self._broken.pop(id(connection), None) or self._why_closed(entry, book)
        with book.lock:
            book.closed[reason] += 1

    def _why_closed(self, entry: ConnectionPoolEntry, book: Book) -> Reason:
        if book.disposing:
            return "pool closed"
        if entry not in book.holders:
            return "surplus"
        # A borrower has it, so it was replaced as it was lent: it is too old, or as old as one that was found dead.
        age_s = time.monotonic() - entry.info.get(OPENED_S, 0.0)
        return "too old" if age_s > self._recycle_s() else "invalid"

    def _recycle_s(self) -> float:
        recycle_s = self._pool()._recycle
        return recycle_s if recycle_s > -1 else float("inf")
