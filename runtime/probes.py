"""Whether the servers answer, and which versions they are."""

from typing import Final

import redis
from sqlalchemy import text

from runtime.database.engine import Database
from schemas.errors import ServerUnreachable

TIMEOUT_S: Final = 5.0


def redis_version(url: str) -> str:
    """The server's version.

    Raises:
        ServerUnreachable: it does not answer, or ``url`` is not a Redis URL.
    """
    try:
        with redis.Redis.from_url(url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S) as client:
            return str(client.info("server")["redis_version"])
    except (redis.RedisError, ValueError) as error:
        raise ServerUnreachable("Redis", _without_password(url), str(error)) from error


def postgres_version(database: Database) -> str:
    """The server's version.

    Raises:
        ServerUnreachable: it does not answer.
    """
    with database.begin() as connection:
        return str(connection.execute(text("SHOW server_version")).scalar())


def _without_password(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"
