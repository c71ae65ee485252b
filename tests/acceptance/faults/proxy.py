"""A way to a server on which answers can be late: toxiproxy's latency, where toxiproxy can't be installed."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from deploy.local.ports import LOOPBACK

CHUNK_BYTES: Final = 65_536


class Proxy:
    """Passes bytes between the clients of its port and a server's port."""

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._latency_s = 0.0
        self._serving: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def open(self, port: int) -> None:
        """Listen on ``port``."""
        self._serving = await asyncio.start_server(self._accept, LOOPBACK, port)

    @contextmanager
    def latency(self, latency_s: float) -> Iterator[None]:
        """Hold every chunk of bytes back for so long, in both directions."""
        self._latency_s = latency_s
        try:
            yield
        finally:
            self._latency_s = 0.0

    async def close(self) -> None:
        """Break every connection, and take no more."""
        if self._serving:
            self._serving.close()
        for task in tuple(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            with suppress(OSError):
                await self._serve(reader, writer)
        finally:
            self._connections.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection(LOOPBACK, self._server_port)
        try:
            # Either end of the connection ends both, as a server's death should be seen at once.
            pumps = [
                asyncio.create_task(self._pump(reader, server_writer)),
                asyncio.create_task(self._pump(server_reader, writer)),
            ]
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
        finally:
            server_writer.close()

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(CHUNK_BYTES):
            if self._latency_s:
                await asyncio.sleep(self._latency_s)
            sink.write(data)
            await sink.drain()
