"""The pooled connection to Postgres."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection, ExceptionContext
from sqlalchemy.exc import DBAPIError, InvalidatePoolError, OperationalError
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

from runtime.database.batches import copy_batches
from runtime.database.prepared import prepare_statements
from runtime.pools.database import DatabasePool, WatchedQueuePool
from schemas.errors import ServerUnreachable

POOL_SIZE: Final = 20
POOL_OVERFLOW: Final = 30
#: A connection older than this is replaced, so that none outlives a failover or a proxy's patience for long.
RECYCLE_S: Final = 1_800
CONNECT_TIMEOUT_S: Final = 5
#: How long a connection may be dead before it is given up. A server that only takes its time answers the probes.
SILENCE_S: Final = 12
#: A connection that lay idle for longer is tried before it is used. One that just worked is not: that would be one
#: more round trip for every transaction.
FRESH_S: Final = 1.0
#: No statement of ours takes so long unless the server is in trouble.
STATEMENT_TIMEOUT_MS: Final = 30_000
#: How long a transaction may wait for its next statement. All of ours are written to end at once: one that waits has a
#: client that is frozen or cut off, and holds up everybody who needs its rows, and the relay.
IDLE_TRANSACTION_MS: Final = 5_000
#: How often Postgres looks whether the client of a statement is still there.
CLIENT_CHECK_MS: Final = 2_000
#: Both ends give up a silent connection as soon.
#: What Postgres says to a write while it is a standby (``read_only_sql_transaction``), as in a failover.
STANDBY: Final = "25006"
KEEPALIVES: Final = {"keepalives_idle": SILENCE_S // 2, "keepalives_interval": SILENCE_S // 4, "keepalives_count": 2}


class Database:
    """The connection pool of one process; ``url`` is a ``postgresql+psycopg2://`` one."""

    def __init__(self, url: str, application: str = "headrace") -> None:
        #: Where it is, fit for messages: without the password.
        self.address = make_url(url).render_as_string(hide_password=True)
        self.engine = create_engine(
            url,
            poolclass=WatchedQueuePool,
            pool_size=POOL_SIZE,
            max_overflow=POOL_OVERFLOW,
            pool_recycle=RECYCLE_S,
            # The one that worked last has its plans, and its server process is awake.
            pool_use_lifo=True,
            # A failed batch would put megabytes of prompts into the log.
            hide_parameters=True,
            connect_args={
                "application_name": application,
                "connect_timeout": CONNECT_TIMEOUT_S,
                # A server that vanished without a word is noticed in about this time, and not never: a worker
                # waits for the answers to its renewals for as long as there may come one.
                "tcp_user_timeout": SILENCE_S * 1_000,
                **KEEPALIVES,
                "options": _options(),
            },
        )
        #: Who holds connections, how many wait and for how long; the pool is the engine's.
        self.pool = DatabasePool(self.engine)
        _try_idle_connections(self.engine)
        prepare_statements(self.engine)
        copy_batches(self.engine)
        event.listen(self.engine, "handle_error", _leave_standby)

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """One transaction: committed at the end of the block, rolled back if it raises.

        Raises:
            ServerUnreachable: Postgres refused the connection or broke it, or takes no writes; nothing or everything
                of the block was committed, so only a statement that may be repeated is retried.
            PoolTimeout: no connection came free in time (retryable).
        """
        with self._told(), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def autocommit(self) -> Iterator[Connection]:
        """A connection on which each statement is a transaction of its own, as some of Postgres' demand.

        Raises:
            ServerUnreachable: as ``begin``, of the statement that failed.
        """
        with self._told(), self.engine.connect() as connection:
            yield connection.execution_options(isolation_level="AUTOCOMMIT")

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OperationalError as error:
            raise ServerUnreachable("Postgres", self.address, str(error.orig).strip()) from error
        except DBAPIError as error:
            if not error.connection_invalidated:
                raise
            raise ServerUnreachable("Postgres", self.address, str(error.orig).strip()) from error

    def close(self) -> None:
        """Close every idle connection; those in use close as they come back."""
        self.engine.dispose()


def _options() -> str:
    """The session's settings."""
    settings = {
        "timezone": "UTC",
        "statement_timeout": STATEMENT_TIMEOUT_MS,
        "idle_in_transaction_session_timeout": IDLE_TRANSACTION_MS,
        "client_connection_check_interval": CLIENT_CHECK_MS,
        **{f"tcp_{name}": value for name, value in KEEPALIVES.items()},
    }
    return " ".join(f"-c {name}={value}" for name, value in settings.items())


def _try_idle_connections(engine: Engine) -> None:
    """As SQLAlchemy's ``pool_pre_ping``, but for connections that lay idle only."""

    def returned(_connection: DBAPIConnection, entry: ConnectionPoolEntry) -> None:
        entry.info["returned_s"] = time.monotonic()

    def taken(connection: DBAPIConnection, entry: ConnectionPoolEntry, _proxy: PoolProxiedConnection) -> None:
        # A new one has just been opened.
        if time.monotonic() - entry.info.get("returned_s", math.inf) < FRESH_S:
            return
        try:
            engine.dialect.do_ping(connection)
        except engine.dialect.loaded_dbapi.Error as error:
            # The pool opens a new one in its place, and trusts no other that is as old.
            raise InvalidatePoolError from error

    event.listen(engine, "checkin", returned)
    event.listen(engine, "checkout", taken)


def _leave_standby(context: ExceptionContext) -> None:
    """Count a server that takes no writes as gone: the next connection may lead to the one that does."""
    if getattr(context.original_exception, "pgcode", None) == STANDBY:
        context.is_disconnect = True
