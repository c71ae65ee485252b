"""The client for asyncio: the same calls, awaited."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Iterable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Self

from producers.client import Headrace
from producers.feed import JobEvent
from producers.status import JobStatus
from schemas.errors import ResultTimeout
from schemas.requests import DEFAULT_TENANT, Request
from schemas.results import ResultEvent


class AsyncHeadrace:
    """``Headrace`` for an event loop, which no method blocks; arguments and errors are the same."""

    def __init__(self, client: Headrace) -> None:
        self._client = client

    @classmethod
    async def connect(
        cls, kafka: str | None = None, *, tenant: str = DEFAULT_TENANT, database: str | None = None
    ) -> Self:
        """As ``Headrace.connect``."""
        return cls(await asyncio.to_thread(Headrace.connect, kafka, tenant=tenant, database=database))

    async def submit(self, request: Request, *, traceparent: str | None = None) -> str:
        """As ``Headrace.submit``."""
        return await asyncio.wrap_future(self._client.send(request, traceparent=traceparent))

    async def submit_many(self, requests: Iterable[Request]) -> list[str]:
        """As ``Headrace.submit_many``."""
        return await asyncio.to_thread(self._client.submit_many, requests)

    async def cancel(self, job_id: str, reason: str | None = None, *, keep_partial: bool = False) -> None:
        """As ``Headrace.cancel``."""
        await asyncio.to_thread(self._client.cancel, job_id, reason, keep_partial=keep_partial)

    async def pause(self, job_id: str, reason: str | None = None) -> None:
        """As ``Headrace.pause``."""
        await asyncio.to_thread(self._client.pause, job_id, reason)

    async def resume(self, job_id: str, reason: str | None = None) -> None:
        """As ``Headrace.resume``."""
        await asyncio.to_thread(self._client.resume, job_id, reason)

    async def retry(self, job_id: str, reason: str | None = None, *, new_id: str | None = None) -> str:
        """As ``Headrace.retry``."""
        return await asyncio.to_thread(self._client.retry, job_id, reason, new_id=new_id)

    async def result(self, job_id: str, timeout_s: float | None = None, *, ended: bool = False) -> ResultEvent:
        """As ``Headrace.result``; cancelling the task ends the wait."""
        try:
            return await asyncio.wait_for(asyncio.wrap_future(self._client.expect(job_id, ended=ended)), timeout_s)
        except TimeoutError:
            raise ResultTimeout(job_id, timeout_s or 0.0) from None

    async def watch(self, job_id: str, timeout_s: float | None = None) -> AsyncGenerator[JobEvent, None]:
        """As ``Headrace.watch``; cancelling the task ends it."""
        stopped = threading.Event()
        events = self._client.watch(job_id, timeout_s, stopped=stopped)
        # A thread of its own: watchers that share the loop's few would make each other wait.
        thread = ThreadPoolExecutor(1, "headrace-watch")
        try:
            while (event := await asyncio.wrap_future(thread.submit(next, events, None))) is not None:
                yield event
        finally:
            stopped.set()
            # In the thread, and not waited for, as the last poll may still run.
            thread.submit(events.close)
            thread.shutdown(wait=False)

    async def status(self, job_id: str) -> JobStatus:
        """As ``Headrace.status``."""
        return await asyncio.to_thread(self._client.status, job_id)

    async def jobs(self, most: int = 20) -> list[JobStatus]:
        """As ``Headrace.jobs``."""
        return await asyncio.to_thread(self._client.jobs, most)

    async def close(self) -> None:
        """As ``Headrace.close``."""
        await asyncio.to_thread(self._client.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
