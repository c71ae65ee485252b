"""Signs of life, which carry the worker's credit to the dispatcher."""

import asyncio
import itertools
import math
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from runtime.kafka import Delivery, Publisher
from schemas import topics
from schemas.codec import new_traceparent
from schemas.errors import ServerUnreachable
from schemas.events import Heartbeat

HEARTBEAT_S: Final = 1.0
#: Slots that become free within this time are told of together: at most 100 heartbeats a second.
GATHER_S: Final = 0.01
#: What nobody waits for is told of within this time: each heartbeat costs Kafka and the dispatcher as much as a job.
CALM_S: Final = 0.1
#: The workers of one pool report to one partition of the topic, and there is one pool.
POOL_PARTITION: Final = 0


class Heartbeats:
    """Publishes what ``describe`` says now, every second and soon after something changed.

    ``delivered`` is set by the first that Kafka has: from then on the dispatcher knows this worker.
    """

    def __init__(self, publisher: Publisher, describe: Callable[[], Heartbeat]) -> None:
        self._publisher = publisher
        self._describe = describe
        self._changed = asyncio.Event()
        self._pressing = asyncio.Event()
        self._told_s = -math.inf
        self._sequence = itertools.count()
        self._loop = asyncio.get_running_loop()
        self.delivered = asyncio.Event()

    def soon(self) -> None:
        """Publish within ``GATHER_S``."""
        self._pressing.set()
        self._changed.set()

    def shortly(self) -> None:
        """Publish within ``GATHER_S`` where nothing was published for a while, and else within ``CALM_S`` of that."""
        self._changed.set()

    async def run(self) -> None:
        """Publish until cancelled."""
        while True:
            self._changed.clear()
            self._pressing.clear()
            self.beat()
            await _within(HEARTBEAT_S, self._changed)
            if self._changed.is_set():
                await asyncio.sleep(GATHER_S)
                await _within(self._told_s + CALM_S - self._loop.time(), self._pressing)

    def beat(self) -> None:
        """Publish now. A repeat or a late one does no harm: each tells all, and is read in order."""
        heartbeat = self._describe()
        self._told_s = self._loop.time()
        try:
            self._publisher.publish(
                topics.WORKERS,
                heartbeat,
                key=heartbeat.worker_id,
                event_id=f"{heartbeat.worker_id}/{next(self._sequence)}",
                traceparent=new_traceparent(),
                partition=POOL_PARTITION,
                on_delivery=None if self.delivered.is_set() else self._acknowledged,
            )
        except ServerUnreachable:
            return  # the next one says the same, and newer

    def _acknowledged(self, delivery: Delivery) -> None:
        if delivery.error is None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self.delivered.set)


async def _within(seconds: float, event: asyncio.Event) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
