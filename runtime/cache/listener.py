"""Hears of invalidations from all processes, and knows until when this process has heard of all of them.

A thread with a connection of its own is subscribed to the channel and sends a ping a second. What was published before
a ping was sent has come before its answer. So once the answer is there, memory may be believed until ``BLIND_S`` after
the ping, and no longer: neither a connection that is lost without a word, nor a thread that does not run, nor a Redis
that hangs lets memory answer with what was invalidated longer ago than that.
"""

import logging
import threading
from collections.abc import Callable
from typing import Final

from redis import Redis
from redis.connection import AbstractConnection
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeout

from runtime.cache.clock import Clock
from runtime.cache.redis_commands import Names, read_message

log = logging.getLogger(__name__)

#: What has been invalidated for longer is not served from memory, whatever has failed.
BLIND_S: Final = 5.0
PING_S: Final = 1.0
#: A ping that is not answered for so long means a new connection.
ANSWER_S: Final = 2.0
#: Between two tries to connect.
RECONNECT_S: Final = 0.2


class Vouch:
    """Until when what is in memory is known to be no older than ``BLIND_S``, by the monotonic clock."""

    __slots__ = ("until_s",)

    def __init__(self, until_s: float) -> None:
        self.until_s = until_s


class Listener:
    """The thread. ``on_names`` gets what others invalidate, ``on_gap`` is called when some may have been missed."""

    def __init__(
        self,
        client: "Redis",
        namespace: str,
        origin: str,
        clock: Clock,
        *,
        on_names: Callable[[tuple[str, ...]], None],
        on_gap: Callable[[], None],
        on_tick: Callable[[], None],
    ) -> None:
        self._pool = client.connection_pool
        self._channel = Names(namespace).channel
        self._origin = origin
        self._clock = clock
        self._on_names = on_names
        self._on_gap = on_gap
        self._on_tick = on_tick
        self.vouch = Vouch(float("-inf"))
        self._closed = threading.Event()
        self._connection: AbstractConnection | None = None
        self._thread = threading.Thread(target=self._run, name="cache-listener", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread; what is in memory is believed no longer."""
        self._closed.set()
        if connection := self._connection:
            _disconnect(connection)
        self._thread.join()

    def _run(self) -> None:
        while not self._closed.is_set():
            connection = self._pool.connection_class(**self._pool.connection_kwargs)
            self._connection = connection
            try:
                self._on_tick()
                self._listen(connection)
            except (RedisError, OSError, ValueError) as error:
                # A ValueError is a socket that ``close`` has closed as it was polled.
                if not self._closed.is_set():
                    log.info("the cache does not hear of invalidations: %s", error)
            except Exception:
                # The edge of the thread. If it ended, no lease would be renewed, and memory hardly be believed, for as
                # long as the process lives; redis-py has odd errors for a socket that is closed as it is read.
                if not self._closed.is_set():
                    log.exception("the listener of the cache has failed, and begins anew")
            finally:
                _disconnect(connection)
            self._closed.wait(RECONNECT_S)
        self.vouch.until_s = float("-inf")

    def _listen(self, connection: AbstractConnection) -> None:
        connection.connect()  # type: ignore[no-untyped-call]
        asked_s = self._clock.monotonic_s()
        connection.send_command("SUBSCRIBE", self._channel)  # type: ignore[no-untyped-call]
        while self._next(connection, ANSWER_S)[0] != b"subscribe":
            pass
        # Only now: what is loaded from here on can't be missed, what was before may have been.
        self._on_gap()
        self.vouch.until_s = asked_s + BLIND_S
        while not self._closed.is_set():
            self._ping(connection)
            self._on_tick()
            self._hear(connection, PING_S)

    def _ping(self, connection: AbstractConnection) -> None:
        """Hear everything that was published before now."""
        sent_s = self._clock.monotonic_s()
        connection.send_command("PING", check_health=False)  # type: ignore[no-untyped-call]
        deadline_s = sent_s + ANSWER_S
        while (reply := self._next(connection, deadline_s - self._clock.monotonic_s()))[0] != b"pong":
            self._tell(reply)
        self.vouch.until_s = sent_s + BLIND_S

    def _hear(self, connection: AbstractConnection, for_s: float) -> None:
        """Pass on what comes within this time."""
        end_s = self._clock.monotonic_s() + for_s
        while not self._closed.is_set() and (left_s := end_s - self._clock.monotonic_s()) > 0:
            if connection.can_read(left_s):
                self._tell(self._next(connection, ANSWER_S))

    def _next(self, connection: AbstractConnection, timeout_s: float) -> list[object]:
        if timeout_s <= 0 or not connection.can_read(timeout_s):
            raise RedisTimeout("Redis does not answer the listener")
        reply = connection.read_response(push_request=True)
        if reply == b"PONG":
            # In the third version of the protocol; in the second all that a subscriber hears is lists.
            return [b"pong"]
        if not isinstance(reply, list) or not reply:
            raise RedisError(f"not what a subscriber hears: {reply!r:.100}")
        return reply

    def _tell(self, reply: list[object]) -> None:
        match reply:
            case [b"message", _, bytes(data)]:
                origin, names = read_message(data)
                # Own ones were heeded as they were made.
                if origin != self._origin:
                    self._on_names(names)
            case _:
                pass


def _disconnect(connection: AbstractConnection) -> None:
    connection.disconnect()  # type: ignore[no-untyped-call]
