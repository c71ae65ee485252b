"""An HTTP/2 server over TLS that answers a request once ``together`` of them have come."""

import asyncio
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h2.config
import h2.connection
import h2.events


class Host2:
    """A running server; it counts its connections and requests."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.together = 1
        self.connections = self.requests = 0
        self.url = ""
        self._context = context
        self._waiting: list[tuple[h2.connection.H2Connection, int, asyncio.StreamWriter]] = []
        self._writers: list[asyncio.StreamWriter] = []
        self._stopped = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.ready = threading.Event()

    async def serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0, ssl=self._context)
        self.url = f"https://localhost:{server.sockets[0].getsockname()[1]}"
        self.ready.set()
        await self._stopped.wait()
        server.close()
        for writer in self._writers:
            writer.transport.abort()
        # Connections whose handshake fails are known to nobody; they end by themselves, in a few turns.
        for _ in range(20):
            await asyncio.sleep(0.001)

    def stop(self) -> None:
        assert self._loop
        self._loop.call_soon_threadsafe(self._stopped.set)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.append(writer)
        connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        connection.initiate_connection()
        writer.write(connection.data_to_send())
        try:
            while data := await reader.read(65_536):
                for event in connection.receive_data(data):
                    if isinstance(event, h2.events.StreamEnded):
                        assert event.stream_id is not None
                        self.requests += 1
                        self._waiting.append((connection, event.stream_id, writer))
                if len(self._waiting) >= self.together:
                    self._answer()
                writer.write(connection.data_to_send())
        finally:
            writer.close()

    def _answer(self) -> None:
        waiting, self._waiting = self._waiting, []
        for connection, stream, writer in waiting:
            connection.send_headers(stream, [(":status", "200")])
            connection.send_data(stream, b"two", end_stream=True)
            writer.write(connection.data_to_send())


def certificate(directory: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """The contexts of a server that speaks HTTP/2, and of a client that trusts it."""
    key, cert = directory / "key.pem", directory / "cert.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    command = ["openssl", "req", "-x509", *kind, *subject, "-keyout", str(key), "-out", str(cert)]
    subprocess.run(command, check=True, capture_output=True)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(cert, key)
    server.set_alpn_protocols(["h2"])
    return server, ssl.create_default_context(cafile=str(cert))


@contextmanager
def running(context: ssl.SSLContext) -> Iterator[Host2]:
    """A server for the time of the block."""
    host = Host2(context)
    thread = threading.Thread(target=lambda: asyncio.run(host.serve()))
    thread.start()
    assert host.ready.wait(10)
    try:
        yield host
    finally:
        host.stop()
        thread.join()
