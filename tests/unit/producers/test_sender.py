"""Requests on their way to a Kafka that is away or slow."""

from collections.abc import Callable
from concurrent.futures import Future

import pytest

from producers.claims import Claims
from producers.errors import ClientClosed
from producers.sender import Sender, send_all
from runtime.kafka import BufferFull
from schemas.errors import ServerUnreachable
from schemas.events import ControlEvent
from schemas.requests import GenerateRequest

PROMPT = GenerateRequest(model="m", prompt="p")


class Silent:
    """A publisher that never tells what became of an event."""

    def publish(self, *event: object, **fields: object) -> None:
        """Take it."""

    def close(self, timeout_s: float) -> None:
        """Give up."""


def sender(publisher: Silent) -> Sender:
    made = Sender("127.0.0.1:1", "default", Claims())
    vars(made)["_publisher"].close(0)
    vars(made)["_publisher"] = publisher
    return made


def test_closing_waits_until_it_is_known_what_was_not_acknowledged() -> None:
    sending = Sender("127.0.0.1:1", "default", Claims(), acknowledge_ms=200)
    sent = sending.send(PROMPT, "mine", None)
    wish = sending.control(ControlEvent(action="cancel", job_id="mine"))
    sending.close()

    for future in (sent, wish):
        with pytest.raises(ServerUnreachable, match=r"127\.0\.0\.1:1"):
            future.result(0)


def test_whoever_waits_for_what_is_given_up_is_told_that_the_client_was_closed() -> None:
    sending = sender(Silent())
    sent = sending.send(PROMPT, "mine", None)
    sending.close()

    with pytest.raises(ClientClosed):
        sent.result(0)


def test_nothing_is_sent_after_the_end() -> None:
    sending = sender(Silent())
    sending.close()

    with pytest.raises(ClientClosed):
        sending.send(PROMPT, "mine", None)


class Slow:
    """Takes requests while fewer than ``room`` wait; whoever waits for one has it acknowledged."""

    def __init__(self, room: int) -> None:
        self.room, self.waiting = room, 0

    def send(self, job_id: str) -> Callable[[], Future[str]]:
        def sent() -> Future[str]:
            if self.waiting >= self.room:
                raise BufferFull("kafka:9092", self.waiting)
            self.waiting += 1
            return Acknowledged(self, job_id)

        return sent


class Acknowledged(Future[str]):
    """Is acknowledged as soon as somebody waits for it."""

    def __init__(self, slow: Slow, job_id: str) -> None:
        super().__init__()
        self._slow, self._job_id = slow, job_id

    def result(self, timeout: float | None = None) -> str:
        self._slow.waiting -= 1
        self.set_result(self._job_id)
        return super().result(timeout)


def test_requests_that_fill_the_buffer_wait_for_those_before_them() -> None:
    slow, job_ids = Slow(room=3), [f"mine-{number}" for number in range(10)]
    assert send_all(slow.send(job_id) for job_id in job_ids) == job_ids


def test_a_buffer_that_others_have_filled_is_told() -> None:
    with pytest.raises(BufferFull, match="0 events wait for it already"):
        send_all([Slow(room=0).send("mine")])
