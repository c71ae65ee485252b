"""Requests on their way to a Kafka that is away."""

import pytest

from producers.errors import ClientClosed
from producers.sender import Sender
from schemas.errors import ServerUnreachable
from schemas.events import ControlEvent
from schemas.requests import GenerateRequest
from schemas.topics import Kind

PROMPT = GenerateRequest(model="m", prompt="p")


class Silent:
    """A publisher that never tells what became of an event."""

    def publish(self, *event: object, **fields: object) -> None:
        """Take it."""

    def close(self, timeout_s: float) -> None:
        """Give up."""


def sender(publisher: Silent) -> Sender:
    made = Sender("127.0.0.1:1", "default")
    vars(made)["_publisher"].close(0)
    vars(made)["_publisher"] = publisher
    return made


def test_closing_waits_until_it_is_known_what_was_not_acknowledged() -> None:
    sending = Sender("127.0.0.1:1", "default", acknowledge_ms=200)
    sent = sending.send(PROMPT, Kind.GENERATE, "mine", None)
    wish = sending.control(ControlEvent(action="cancel", job_id="mine"))
    sending.close()

    for future in (sent, wish):
        with pytest.raises(ServerUnreachable, match=r"127\.0\.0\.1:1"):
            future.result(0)


def test_whoever_waits_for_what_is_given_up_is_told_that_the_client_was_closed() -> None:
    sending = sender(Silent())
    sent = sending.send(PROMPT, Kind.GENERATE, "mine", None)
    sending.close()

    with pytest.raises(ClientClosed):
        sent.result(0)


def test_nothing_is_sent_after_the_end() -> None:
    sending = sender(Silent())
    sending.close()

    with pytest.raises(ClientClosed):
        sending.send(PROMPT, Kind.GENERATE, "mine", None)
