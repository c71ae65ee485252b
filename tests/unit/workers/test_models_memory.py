"""The memory tier: lending, one load for many, and room."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest

from workers.models.memory import MemoryTier


@dataclass(frozen=True)
class Weight:
    name: str
    size_bytes: int = 10


class Shelf:
    """What can be loaded, and how often it was."""

    def __init__(self, budget_bytes: int = 25) -> None:
        self.memory: MemoryTier[Weight] = MemoryTier(budget_bytes)
        self.loads: list[str] = []

    def load(self, name: str) -> Callable[[], Awaitable[Weight]]:
        async def run() -> Weight:
            self.loads.append(name)
            await asyncio.sleep(0)
            return Weight(name)

        return run

    async def use(self, name: str, parent: str | None = None) -> None:
        async with self.memory.borrow(name, 10, self.load(name), parent=parent):
            pass

    def names(self) -> list[str]:
        return [weight.name for weight in self.memory.loaded()]


async def _fails() -> Weight:
    await asyncio.sleep(0)
    raise OSError("the disk is away")


def test_many_borrowers_of_one_cold_item_wait_for_one_load() -> None:
    shelf = Shelf()

    async def run() -> None:
        await asyncio.gather(*(shelf.use("a") for _ in range(10)))

    asyncio.run(run())
    assert shelf.loads == ["a"]


def test_a_failed_load_fails_all_that_wait_and_is_tried_again_by_the_next() -> None:
    shelf = Shelf()

    async def fail() -> None:
        async with shelf.memory.borrow("a", 10, _fails):
            raise AssertionError

    async def run() -> None:
        answers = await asyncio.gather(fail(), fail(), return_exceptions=True)
        assert [type(answer) for answer in answers] == [OSError, OSError]
        await shelf.use("a")

    asyncio.run(run())
    assert shelf.names() == ["a"]


def test_the_longest_unused_item_is_dropped_first() -> None:
    shelf = Shelf(budget_bytes=25)

    async def run() -> None:
        for name in ("a", "b", "a", "c"):
            await shelf.use(name)

    asyncio.run(run())
    assert shelf.names() == ["a", "c"]


def test_what_is_lent_is_never_dropped_and_goes_once_it_is_given_back() -> None:
    shelf = Shelf(budget_bytes=15)

    async def run() -> None:
        async with shelf.memory.borrow("a", 10, shelf.load("a")):
            await shelf.use("b")
            await shelf.use("c")
            assert shelf.names() == ["a"]
        await shelf.use("d")

    asyncio.run(run())
    assert shelf.names() == ["d"]


def test_room_is_made_before_the_load() -> None:
    shelf = Shelf(budget_bytes=15)
    seen: list[list[str]] = []

    async def load() -> Weight:
        seen.append(shelf.names())
        return Weight("b")

    async def run() -> None:
        await shelf.use("a")
        async with shelf.memory.borrow("b", 10, load):
            pass

    asyncio.run(run())
    assert seen == [[]]


def test_an_item_that_another_is_built_on_stays_as_long_as_that_one() -> None:
    shelf = Shelf(budget_bytes=25)

    async def run() -> None:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(shelf.memory.borrow("base", 10, shelf.load("base")))
            await stack.enter_async_context(shelf.memory.borrow("view", 10, shelf.load("view"), parent="base"))
        # The base is the older one, but the view would keep its memory.
        await shelf.use("other")
        assert shelf.names() == ["base", "other"]
        await shelf.use("more")
        await shelf.use("most")

    asyncio.run(run())
    assert shelf.names() == ["more", "most"]


def test_a_cancelled_borrower_does_not_cancel_the_load_for_the_others() -> None:
    shelf = Shelf()
    go = asyncio.Event()

    async def load() -> Weight:
        await go.wait()
        return Weight("a")

    async def borrow() -> Weight:
        async with shelf.memory.borrow("a", 10, load) as weight:
            return weight

    async def run() -> Weight:
        first, second = asyncio.create_task(borrow()), asyncio.create_task(borrow())
        await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        go.set()
        return await second

    assert asyncio.run(run()) == Weight("a")


def test_a_load_that_nobody_waits_for_any_more_may_fail_quietly() -> None:
    shelf = Shelf()

    async def run() -> None:
        task = asyncio.create_task(shelf.use("a"))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        async with AsyncExitStack() as stack:
            with pytest.raises(OSError, match="the disk is away"):
                await stack.enter_async_context(shelf.memory.borrow("b", 10, _fails))

    asyncio.run(run())
    assert shelf.names() == ["a"]
