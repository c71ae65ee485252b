"""Waiting for Kafka's answers, with a publisher that answers from another thread."""

import asyncio
import threading
from collections.abc import Sequence

from runtime.kafka import Delivery, OnDelivery
from schemas.errors import ServerUnreachable
from streams.deliveries import Send, deliver, insist


def sending(answers: Sequence[str | None]) -> list[Send]:
    """Sends that are answered by another thread, with an error or None, when the last is there."""
    waiting: list[tuple[OnDelivery, str | None]] = []

    def answer() -> None:
        for report, error in reversed(waiting):
            report(Delivery("topic", 0, 0, error))

    def send(on_delivery: OnDelivery, error: str | None) -> None:
        waiting.append((on_delivery, error))
        if len(waiting) == len(answers):
            threading.Thread(target=answer).start()

    return [lambda on_delivery, error=error: send(on_delivery, error) for error in answers]  # type: ignore[misc]


def full(_on_delivery: OnDelivery) -> None:
    raise ServerUnreachable("Kafka", "broker:9092", "200,000 events wait for it")


def test_each_event_gets_its_own_answer() -> None:
    assert asyncio.run(deliver(sending([None, "away", None]))) == [True, False, True]


def test_nothing_to_send_needs_no_broker() -> None:
    assert asyncio.run(deliver([])) == []


def test_an_event_that_the_publisher_refuses_is_not_delivered() -> None:
    assert asyncio.run(deliver([full])) == [False]


def test_only_what_was_not_delivered_is_sent_again() -> None:
    rounds: list[str] = []

    def good(on_delivery: OnDelivery) -> None:
        rounds.append("good")
        on_delivery(Delivery("topic", 0, 0, None))

    def late(on_delivery: OnDelivery) -> None:
        rounds.append("late")
        on_delivery(Delivery("topic", 0, 0, "away" if rounds.count("late") < 2 else None))

    asyncio.run(insist([good, late]))
    assert rounds == ["good", "late", "late"]


def test_an_answer_that_comes_after_the_end_hurts_nobody() -> None:
    reports: list[OnDelivery] = []

    async def give_up() -> None:
        waiting = asyncio.create_task(deliver([reports.append]))
        await asyncio.sleep(0)
        waiting.cancel()

    asyncio.run(give_up())
    reports[0](Delivery("topic", 0, 0, None))
