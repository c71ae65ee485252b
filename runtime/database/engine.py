"""The pooled connection to Postgres."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from sqlalchemy import Connection, create_engine, make_url
from sqlalchemy.exc import DBAPIError, OperationalError

from schemas.errors import ServerUnreachable

POOL_SIZE: Final = 20
POOL_OVERFLOW: Final = 30
#: A connection older than this is replaced, so that none outlives a failover or a proxy's patience for long.
RECYCLE_S: Final = 1_800
CONNECT_TIMEOUT_S: Final = 5
#: No statement of ours takes so long unless the server is in trouble.
STATEMENT_TIMEOUT_MS: Final = 30_000


class Database:
    """The connection pool of one process; ``url`` is a ``postgresql+psycopg2://`` one."""

    def __init__(self, url: str, application: str = "headrace") -> None:
        #: Where it is, fit for messages: without the password.
        self.address = make_url(url).render_as_string(hide_password=True)
        self.engine = create_engine(
            url,
            pool_size=POOL_SIZE,
            max_overflow=POOL_OVERFLOW,
            pool_pre_ping=True,
            pool_recycle=RECYCLE_S,
            # A failed batch would put megabytes of prompts into the log.
            hide_parameters=True,
            connect_args={
                "application_name": application,
                "connect_timeout": CONNECT_TIMEOUT_S,
                "options": f"-c statement_timeout={STATEMENT_TIMEOUT_MS} -c timezone=UTC",
            },
        )

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """One transaction: committed at the end of the block, rolled back if it raises.

        Raises:
            ServerUnreachable: Postgres refused the connection or broke it; nothing or everything
                of the block was committed, so only a statement that may be repeated is retried.
        """
        try:
            with self.engine.begin() as connection:
                yield connection
        except OperationalError as error:
            raise ServerUnreachable("Postgres", self.address, str(error.orig).strip()) from error
        except DBAPIError as error:
            if not error.connection_invalidated:
                raise
            raise ServerUnreachable("Postgres", self.address, str(error.orig).strip()) from error

    def close(self) -> None:
        """Close every idle connection; those in use close as they come back."""
        self.engine.dispose()
