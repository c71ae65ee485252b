"""Faust's Kafka client in the loop of its app instead of in a thread with a loop of its own.

Faust keeps it in a thread, so that an agent that blocks the loop does not cost the process its partitions. Ours don't
block for more than milliseconds, and each fetch went three times from thread to thread, with the interpreter's lock.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

from faust.transport.drivers import aiokafka as driver
from mode.threads import ServiceThread
from mode.utils.futures import maybe_async

#: How long the broker lets one fetch wait.
FETCH_WAIT_MS: Final = 100


class _Task:
    """What ``ServiceThread`` takes for its thread."""

    def __init__(self, service: ServiceThread) -> None:
        self._service = service

    def start(self) -> None:
        """Serve in a task."""
        self._task = self._service.parent_loop.create_task(self._serve())

    def stop(self) -> None:
        """Its end was waited for: ``Service.stop`` did."""

    async def _serve(self) -> None:
        # The app was told of the error by then.
        with suppress(Exception):
            await self._service._serve()


class LoopConsumer(driver.AIOKafkaConsumerThread):
    """To be made with ``thread_loop`` as the app's own loop."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, Worker=_Task, **kwargs)

    async def call_thread(self, fun: Callable[..., Awaitable[Any]], *args: Any, **kwargs: Any) -> Any:
        """Call it, here. Whoever waits may be cancelled without it."""
        return await asyncio.shield(asyncio.ensure_future(maybe_async(fun(*args, **kwargs))))

    async def _gather_remaining_tasks(self) -> None:
        """The loop's other tasks are not this service's."""

    def _create_worker_consumer(self, transport: driver.Transport) -> Any:
        consumer = super()._create_worker_consumer(transport)
        # Faust has settings for neither, and aiokafka reads both when it is started.
        # By default, what was never committed is read too: a request that its client aborted would run.
        consumer._isolation_level = "read_committed"
        # One fetch waits at a time, and not for partitions whose records are not taken yet. They would
        # be read on after 1.5 s only.
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS
        return consumer
