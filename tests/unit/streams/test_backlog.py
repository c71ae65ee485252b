"""Chunks that wait for their agent."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import cast

from streams.backlog import Backlog
from streams.chunks import CHUNK_RECORDS, Chunk, Record
from tests.unit.streams.records import FakeRecord


class Come:
    """A chunk as Faust brings it."""

    def __init__(self, *offsets: int) -> None:
        self.value = Chunk(cast(Sequence[Record], [FakeRecord(offset=offset) for offset in offsets]))
        self.acked = False

    def ack(self) -> bool:
        self.acked = True
        return True


async def come(*chunks: Come) -> AsyncIterator[Come]:
    for chunk in chunks:
        yield chunk


def test_what_has_come_is_taken_together_up_to_the_size_of_a_chunk() -> None:
    async def run() -> None:
        backlog = Backlog()
        chunks = [Come(0), Come(1), Come(*range(2, 2 + CHUNK_RECORDS)), Come(9_000)]
        await backlog.fill(come(*chunks))
        assert await backlog.take() == chunks[:2]
        assert await backlog.take() == [chunks[2]]
        assert await backlog.take() == [chunks[3]]

    asyncio.run(run())


def test_of_two_that_wait_one_takes_what_comes_and_the_other_what_comes_next() -> None:
    async def run() -> None:
        backlog = Backlog()
        takers = [asyncio.create_task(backlog.take()) for _ in range(2)]
        await asyncio.sleep(0)
        first, second = Come(0), Come(1)
        await backlog.fill(come(first))
        done, waits = await asyncio.wait(takers, return_when=asyncio.FIRST_COMPLETED)
        assert [task.result() for task in done] == [[first]]
        await backlog.fill(come(second))
        (last,) = waits
        assert await last == [second]

    asyncio.run(run())
