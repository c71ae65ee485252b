"""Chunks that wait for their agent: those that come while it works share its next transaction."""

import asyncio
from collections import deque
from collections.abc import AsyncIterable
from typing import Protocol

from streams.chunks import CHUNK_BYTES, CHUNK_RECORDS, Chunk, size_bytes


class Arrival(Protocol):
    """A chunk as Faust brings it."""

    @property
    def value(self) -> Chunk: ...

    def ack(self) -> bool:
        """Say that everything that it asks for is durable."""


class Backlog:
    """The chunks of one topic in the order of their arrival; for one loop, in which several may take.

    A partition's next records come as a chunk of their own, however few they are, and a transaction takes as long
    for one record as for fifty. One after the other, chunks of single records would wait for each other's.
    """

    def __init__(self) -> None:
        self._arrivals: deque[Arrival] = deque()
        self._arrived = asyncio.Event()

    async def fill(self, arrivals: AsyncIterable[Arrival]) -> None:
        """Take what comes, until there is no more. How much that can be is bounded by the transport."""
        async for arrival in arrivals:
            self._arrivals.append(arrival)
            self._arrived.set()

    async def take(self) -> list[Arrival]:
        """What waits, as soon as there is something: within the limits of a chunk, or one chunk."""
        while not self._arrivals:
            await self._arrived.wait()
        taken = [self._arrivals.popleft()]
        records, total_bytes = len(taken[0].value.records), size_bytes(taken[0].value.records)
        while self._arrivals:
            more = self._arrivals[0].value.records
            records += len(more)
            total_bytes += size_bytes(more)
            if records > CHUNK_RECORDS or total_bytes > CHUNK_BYTES:
                break
            taken.append(self._arrivals.popleft())
        if not self._arrivals:
            self._arrived.clear()
        return taken


def merged(arrivals: list[Arrival]) -> Chunk:
    """One chunk of all of them."""
    if len(arrivals) == 1:
        return arrivals[0].value
    return Chunk([record for arrival in arrivals for record in arrival.value.records])
