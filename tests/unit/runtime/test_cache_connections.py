"""Connections that reads hold: one that has failed is not used again."""

from typing import Any, cast

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as RedisGone
from redis.exceptions import ResponseError

from runtime.cache.connections import Connections


class Wire:
    """A connection that answers each command with itself, or raises what it is told to."""

    made: "list[Wire]" = []  # noqa: RUF012  # emptied by each test
    errors: "list[BaseException]" = []  # noqa: RUF012

    def __init__(self) -> None:
        self.made.append(self)
        self.open = True
        self.sent: tuple[str, ...] = ()

    def send_command(self, *command: str) -> None:
        self.sent = command

    def read_response(self) -> object:
        if self.errors:
            raise self.errors.pop()
        return self.sent

    def disconnect(self) -> None:
        self.open = False


class Pool:
    """Of a client."""

    connection_class = Wire
    connection_kwargs: dict[str, Any] = {}  # noqa: RUF012


class Client:
    """With that pool."""

    connection_pool = Pool()


@pytest.fixture
def connections() -> Connections:
    Wire.made.clear()
    Wire.errors.clear()
    return Connections(cast("Redis", Client()))


@pytest.mark.parametrize("error", [KeyboardInterrupt(), TimeoutError(), RedisGone()])
def test_a_connection_whose_answer_was_not_read_is_closed_and_used_no_more(
    connections: Connections, error: BaseException
) -> None:
    Wire.errors.append(error)
    with pytest.raises(type(error)):
        connections.ask("GET", "a")
    assert connections.ask("GET", "b") == ("GET", "b")
    assert [wire.open for wire in Wire.made] == [False, True]


def test_an_idle_connection_that_the_server_has_closed_is_replaced_by_a_new_one(connections: Connections) -> None:
    connections.ask("GET", "a")
    Wire.errors.append(RedisGone())
    assert connections.ask("GET", "b") == ("GET", "b")
    assert connections.ask("GET", "c") == ("GET", "c")
    assert [wire.open for wire in Wire.made] == [False, True]


def test_an_error_of_redis_is_an_answer_and_the_connection_is_kept(connections: Connections) -> None:
    Wire.errors.append(ResponseError())
    with pytest.raises(ResponseError):
        connections.ask("GET", "a")
    connections.ask("GET", "b")
    assert len(Wire.made) == 1
    connections.close()
    assert not Wire.made[0].open
