"""Connections that reads hold for a command each, without what a client's pool does around one.

A read is most of what is sent, and redis-py takes as long around a command as the command itself: it looks whether a
connection is still sound, counts, and prepares to try again. Here a connection is sound because whatever disturbs an
answer ends it, and one that the server has closed while it was idle is found out by using it.
"""

from typing import Any

from redis import Redis
from redis.exceptions import ConnectionError as RedisGone
from redis.exceptions import ResponseError


class Connections:
    """As many as there are threads that read at once. Thread-safe: a list's ``pop`` and ``append`` are whole."""

    def __init__(self, client: "Redis") -> None:
        self._pool = client.connection_pool
        # Any, because redis-py's connections have no types where they are used here.
        self._idle: list[Any] = []
        self._closed = False

    def ask(self, *command: str) -> object:
        """The answer to a command that may be sent twice.

        Raises:
            RedisError: there is none, or it is an error.
        """
        try:
            connection = self._idle.pop()
        except IndexError:
            return self._ask(self._new(), command)
        try:
            return self._ask(connection, command)
        except RedisGone:
            # It was idle; what has closed it may be over.
            return self._ask(self._new(), command)

    def close(self) -> None:
        """Close them; those in use as they come back."""
        self._closed = True
        while self._idle:
            self._idle.pop().disconnect()

    def _new(self) -> Any:
        return self._pool.connection_class(**self._pool.connection_kwargs)

    def _ask(self, connection: Any, command: tuple[str, ...]) -> object:
        try:
            connection.send_command(*command)
            answer: object = connection.read_response()
        except ResponseError:
            self._put_back(connection)
            raise
        except BaseException:
            # A later answer on it would be taken for another command's.
            connection.disconnect()
            raise
        self._put_back(connection)
        return answer

    def _put_back(self, connection: Any) -> None:
        self._idle.append(connection)
        if self._closed:
            self.close()
