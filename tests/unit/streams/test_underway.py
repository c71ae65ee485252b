"""What a stop waits for."""

import asyncio
from contextlib import suppress

import pytest

from streams import underway
from streams.underway import Underway


def test_what_has_begun_is_finished_though_its_caller_is_cancelled_and_a_stop_waits_for_it() -> None:
    async def run() -> None:
        work, answered, told = Underway(), asyncio.Event(), []

        async def lease() -> None:
            await answered.wait()
            told.append("worker")

        caller = asyncio.create_task(work.finish(lease()))
        await asyncio.sleep(0)
        caller.cancel()
        with suppress(asyncio.CancelledError):
            await caller
        asyncio.get_running_loop().call_soon(answered.set)
        assert await work.finished()
        assert told == ["worker"]

    asyncio.run(run())


def test_a_stop_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(underway, "FINISH_S", 0.01)

    async def run() -> None:
        work = Underway()
        caller = asyncio.create_task(work.finish(asyncio.sleep(60)))
        await asyncio.sleep(0)
        assert not await work.finished()
        caller.cancel()

    asyncio.run(run())


def test_the_caller_hears_the_answer_and_the_error() -> None:
    async def answers() -> int:
        return 7

    async def fails() -> None:
        raise ValueError("no")

    async def run() -> None:
        work = Underway()
        assert await work.finish(answers()) == 7
        with pytest.raises(ValueError, match="no"):
            await work.finish(fails())
        assert await work.finished()

    asyncio.run(run())
