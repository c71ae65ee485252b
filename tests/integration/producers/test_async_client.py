"""The asynchronous client against a real Kafka."""

import asyncio
import secrets
import threading
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import pytest

from producers import AsyncHeadrace
from schemas.errors import InvalidRequest, JobNotFound, ResultTimeout, ServerUnreachable
from schemas.events import State, StatusEvent
from schemas.requests import GenerateRequest
from schemas.results import ResultEvent
from tests.integration.producers.stub import StubPlatform

WAIT_S = 20.0
PROMPT = GenerateRequest(model="m", prompt="p")


@asynccontextmanager
async def connected(kafka: str) -> AsyncIterator[AsyncHeadrace]:
    async with asyncio.timeout(60), await AsyncHeadrace.connect(kafka) as client:
        yield client


def test_a_job_is_submitted_awaited_and_watched(topics_created: str, platform: StubPlatform) -> None:
    async def run() -> None:
        async with connected(topics_created) as client:
            job_id = await client.submit(PROMPT)
            platform.state(job_id, State.QUEUED)
            platform.succeed(job_id)
            assert (await client.result(job_id, WAIT_S)).job_id == job_id
            assert (await client.status(job_id)).state is State.QUEUED
            events = [event async for event in client.watch(job_id)]
            assert [type(event) for event in events] == [StatusEvent, ResultEvent]

    asyncio.run(run())


def test_many_jobs_are_awaited_at_once(topics_created: str, platform: StubPlatform) -> None:
    async def run() -> None:
        async with connected(topics_created) as client:
            job_ids = await client.submit_many([PROMPT] * 50)
            waiting = asyncio.gather(*(client.result(job_id, WAIT_S) for job_id in job_ids))
            await asyncio.to_thread(platform.succeed, *job_ids)
            assert [event.job_id for event in await waiting] == job_ids

    asyncio.run(run())


def test_the_loop_turns_while_something_is_awaited(topics_created: str, platform: StubPlatform) -> None:
    async def run() -> None:
        async with connected(topics_created) as client:
            job_ids = await client.submit_many([PROMPT] * 20)

            async def first(job_id: str) -> str:
                async with aclosing(client.watch(job_id)) as events:
                    return (await anext(events)).job_id

            # More watchers than a pool of the loop's own size has threads.
            watching = [asyncio.create_task(first(job_id)) for job_id in job_ids]
            for job_id in job_ids:
                await asyncio.to_thread(platform.state, job_id, State.QUEUED)
            assert await asyncio.gather(*watching) == job_ids

    asyncio.run(run())


def test_errors_are_those_of_the_other_client(topics_created: str) -> None:
    async def run() -> None:
        async with connected(topics_created) as client:
            with pytest.raises(InvalidRequest):
                await client.submit(GenerateRequest(model="m", prompt="p", max_tokens=0))
            with pytest.raises(ResultTimeout):
                await client.result(f"mine-{secrets.token_hex(8)}", 0.2)
            with pytest.raises(JobNotFound):
                await client.status(f"mine-{secrets.token_hex(8)}")
            await client.cancel(await client.submit(PROMPT))
        with pytest.raises(ServerUnreachable):
            await AsyncHeadrace.connect("127.0.0.1:1")

    asyncio.run(run())


def test_a_cancelled_wait_and_a_cancelled_watch_leave_no_thread(topics_created: str, platform: StubPlatform) -> None:
    async def watch(client: AsyncHeadrace, job_id: str, began: asyncio.Event) -> None:
        async for _ in client.watch(job_id):
            began.set()

    async def run() -> None:
        async with connected(topics_created) as client:
            job_id = await client.submit(PROMPT)
            began = asyncio.Event()
            tasks = [
                asyncio.create_task(watch(client, job_id, began)),
                asyncio.create_task(client.result(f"mine-{secrets.token_hex(8)}")),
            ]
            await asyncio.to_thread(platform.state, job_id, State.QUEUED)
            await began.wait()
            for task in tasks:
                task.cancel()
            for task in tasks:
                with pytest.raises(asyncio.CancelledError):
                    await task

    before = set(threading.enumerate())
    asyncio.run(run())
    for thread in set(threading.enumerate()) - before:
        thread.join(WAIT_S)
        assert not thread.is_alive(), thread.name
