"""The log stays readable while a server is away."""

import logging

from streams.logs import Seldom


def record(name: str, line: int, message: str) -> logging.LogRecord:
    return logging.LogRecord(name, logging.ERROR, "client.py", line, message, None, None)


def test_the_kafka_client_says_the_same_thing_once() -> None:
    seldom = Seldom()
    assert seldom.filter(record("aiokafka", 7, "no connection after 1 s"))
    assert not seldom.filter(record("aiokafka", 7, "no connection after 2 s"))
    assert seldom.filter(record("aiokafka", 9, "something else"))


def test_what_we_say_ourselves_is_always_logged() -> None:
    seldom = Seldom()
    assert all(seldom.filter(record("streams.reaper", 7, "a job lost its worker")) for _ in range(2))
