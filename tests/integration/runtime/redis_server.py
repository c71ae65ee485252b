"""A Redis of a test's own, to be stopped, filled and made read-only; and a way to it that can be cut or slow."""

import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from redis import Redis
from redis.exceptions import ConnectionError as RedisGone

START_S = 20.0
LOOPBACK = "127.0.0.1"


class RedisServer:
    """A redis-server that keeps nothing on disk."""

    def __init__(self, directory: Path) -> None:
        with socket.create_server((LOOPBACK, 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"redis://{LOOPBACK}:{self.port}/0"
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Return once it answers."""
        command = ["redis-server", "--port", str(self.port), "--bind", LOOPBACK, "--save", "", "--dir",
                   str(self._directory)]  # fmt: skip
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline_s = time.monotonic() + START_S
        with self.client() as client:
            while True:
                try:
                    client.ping()
                    return
                except RedisGone:
                    assert self._process.poll() is None, "redis-server has ended"
                    assert time.monotonic() < deadline_s, "redis-server does not answer"
                    time.sleep(0.01)

    def stop(self) -> None:
        """Kill it: what it held is lost."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    def client(self) -> "Redis":
        """A plain client."""
        return Redis.from_url(self.url)


class Way:
    """Passes bytes between clients and a server, until it is told to hold them back or to hang up."""

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._listening = socket.create_server((LOOPBACK, 0))
        self.url = f"redis://{LOOPBACK}:{self._listening.getsockname()[1]}/0"
        self._open = threading.Event()
        self._open.set()
        self._refuses = False
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def hold(self) -> None:
        """Bytes come no further, and nobody is told."""
        self._open.clear()

    def hang_up(self) -> None:
        """End every connection, and each new one, until ``release``."""
        self._refuses = True
        self._cut()

    def release(self) -> None:
        """Let everything through again."""
        self._refuses = False
        self._open.set()

    def close(self) -> None:
        """Break every connection, and take no more."""
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._open.set()
        self._cut()

    def _cut(self) -> None:
        for each in self._sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client = self._listening.accept()[0]
                if self._refuses:
                    client.close()
                    continue
                server = socket.create_connection((LOOPBACK, self._server_port))
                self._sockets += [client, server]
                for ends in ((client, server), (server, client)):
                    threading.Thread(target=self._pump, args=ends, daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                self._open.wait()
                sink.sendall(data)
        for each in (source, sink):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


@contextmanager
def redis_server(directory: Path) -> Iterator[RedisServer]:
    """A server that lives as long as the block."""
    server = RedisServer(directory)
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def way_to(server: RedisServer) -> Iterator[Way]:
    """A way that lives as long as the block."""
    with closing(Way(server.port)) as way:
        yield way
