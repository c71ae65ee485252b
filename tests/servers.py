"""Real servers for every test that needs them, and a clean part of each for the test alone.

In order: those named in the environment (all three of ``HEADRACE_KAFKA``, ``HEADRACE_REDIS`` and
``HEADRACE_DATABASE``), else containers where a Docker engine answers, else native servers in a
directory that is removed afterwards.
"""

import os
import secrets
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg2
import pytest
import redis
from sqlalchemy import make_url
from sqlalchemy.engine import URL

from deploy.local.stack import Plan
from deploy.local.temporary import temporary_stack
from tests.containers import containers, engine_answers

ADDRESSES = ("HEADRACE_KAFKA", "HEADRACE_REDIS", "HEADRACE_DATABASE")

#: Redis numbers its logical databases; this many unless it is told otherwise.
REDIS_DATABASES = 16


@contextmanager
def open_servers() -> Iterator[Mapping[str, str]]:
    """The addresses of servers that run as long as this context is open."""
    named = {name: os.environ[name] for name in ADDRESSES if name in os.environ}
    if len(named) == len(ADDRESSES):
        yield named
    elif named:
        missing = ", ".join(name for name in ADDRESSES if name not in named)
        pytest.exit(f"the environment names some servers but not {missing}: set all three or none", returncode=2)
    elif engine_answers():
        with containers() as addresses:
            yield addresses
    else:
        with tempfile.TemporaryDirectory(prefix="headrace-tests-") as directory:
            plan = Plan(Path(directory) / "stack", servers_only=True, durable=False)
            with temporary_stack(plan) as state:
                yield state.environment


@pytest.fixture(scope="session")
def stack_env() -> Iterator[Mapping[str, str]]:
    """The servers' addresses, by the names of ``var/stack.env``."""
    with open_servers() as addresses:
        yield addresses


@pytest.fixture(scope="session")
def kafka(stack_env: Mapping[str, str]) -> str:
    """The address of a Kafka that all tests share: give topics and groups names of your own."""
    return stack_env["HEADRACE_KAFKA"]


@pytest.fixture
def redis_url(stack_env: Mapping[str, str]) -> Iterator[str]:
    """The address of a logical Redis database that is empty now, and is emptied after the test."""
    server = stack_env["HEADRACE_REDIS"].rpartition("/")[0]
    for number in range(1, REDIS_DATABASES):
        url = f"{server}/{number}"
        with redis.Redis.from_url(url) as client:
            # Never one that holds something: the server may be the user's own.
            if client.dbsize() == 0:
                yield url
                client.flushdb()
                return
    pytest.fail(f"none of the Redis databases 1 to {REDIS_DATABASES - 1} at {server} is empty")


@pytest.fixture(scope="module")
def database_url(stack_env: Mapping[str, str]) -> Iterator[str]:
    """The address of a Postgres database that this test module alone uses."""
    with fresh_database(stack_env["HEADRACE_DATABASE"]) as url:
        yield url


@pytest.fixture(scope="package")
def package_database_url(stack_env: Mapping[str, str]) -> Iterator[str]:
    """The address of a Postgres database that all modules of a test package share."""
    with fresh_database(stack_env["HEADRACE_DATABASE"]) as url:
        yield url


@contextmanager
def fresh_database(server_url: str) -> Iterator[str]:
    """Create an empty database beside the one of ``server_url``, and drop it in the end."""
    server = make_url(server_url)
    name = f"headrace_test_{secrets.token_hex(6)}"
    execute(server, f"CREATE DATABASE {name}")
    try:
        yield server.set(database=name).render_as_string(hide_password=False)
    finally:
        # Also under a connection that a failed test left open.
        execute(server, f"DROP DATABASE {name} WITH (FORCE)")


def execute(server: URL, statement: str) -> None:
    """Run one statement outside of a transaction, as CREATE DATABASE demands."""
    address = server.set(drivername="postgresql").render_as_string(hide_password=False)
    with closing(psycopg2.connect(address)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement)
