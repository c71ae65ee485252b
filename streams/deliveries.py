"""Publish a group of events and wait until Kafka has them."""

import asyncio
import logging
import random
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from runtime.kafka import Delivery, OnDelivery
from schemas.errors import ServerUnreachable

#: Publishes one event, whose delivery it reports to its argument.
Send = Callable[[OnDelivery], None]

log = logging.getLogger(__name__)

#: The wait before events are published again; the publisher itself has tried for a minute by then.
RETRY_S: Final = 1.0


async def deliver(sends: Sequence[Send]) -> list[bool]:
    """Publish each event once; whether Kafka has acknowledged it, in the order of ``sends``."""
    if not sends:
        return []
    group = _Group(len(sends))
    for index, send in enumerate(sends):
        try:
            send(group.reporter(index))
        except ServerUnreachable as error:
            log.warning("%s", error)
            group.report(index, delivered=False)
    await group.done
    return group.delivered


async def insist(sends: Sequence[Send]) -> None:
    """Publish events until Kafka has acknowledged each; one may be there twice then."""
    while True:
        delivered = await deliver(sends)
        sends = [send for send, done in zip(sends, delivered, strict=True) if not done]
        if not sends:
            return
        log.warning("Kafka did not take %d events; they are published again.", len(sends))
        await asyncio.sleep(RETRY_S * random.uniform(0.5, 1.5))


class _Group:
    """Counts reports, which come in the publisher's thread, and wakes the loop once: at the last one."""

    def __init__(self, size: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._missing = size
        self.delivered = [False] * size
        self.done: asyncio.Future[None] = self._loop.create_future()

    def reporter(self, index: int) -> OnDelivery:
        def on_delivery(delivery: Delivery) -> None:
            self.report(index, delivered=delivery.error is None)

        return on_delivery

    def report(self, index: int, *, delivered: bool) -> None:
        with self._lock:
            self.delivered[index] = delivered
            self._missing -= 1
            if self._missing:
                return
        # The loop is closed where the process ends without waiting for this group.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._finish)

    def _finish(self) -> None:
        if not self.done.done():
            self.done.set_result(None)
