"""The servers that every other test relies on."""

from collections.abc import Mapping

import psycopg2
import pytest
import redis
from confluent_kafka.admin import AdminClient
from sqlalchemy import make_url

from tests.servers import fresh_database


def test_kafka_is_reachable_at_its_advertised_address(kafka: str) -> None:
    client = AdminClient({"bootstrap.servers": kafka})
    addresses = [f"{broker.host}:{broker.port}" for broker in client.list_topics(timeout=10).brokers.values()]
    assert kafka in addresses


def test_redis_database_is_empty_at_first(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0
        client.set("left", "behind")


def test_redis_database_is_emptied_after_each_test(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0


def test_fresh_database_is_dropped_even_with_an_open_connection(stack_env: Mapping[str, str]) -> None:
    with fresh_database(stack_env["HEADRACE_DATABASE"]) as url:
        connection = psycopg2.connect(plain(url))
    with pytest.raises(psycopg2.OperationalError, match="does not exist"):
        psycopg2.connect(plain(url))
    connection.close()


def plain(url: str) -> str:
    """The address as libpq reads it."""
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
