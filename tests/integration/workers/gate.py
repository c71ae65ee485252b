"""A way to a server that can be cut or frozen, and mended again."""

import socket
import threading
from contextlib import suppress
from typing import Self

CHUNK_BYTES = 65_536


class Gate:
    """Passes bytes between clients of its port and a server, in threads."""

    def __init__(self, host: str, port: int) -> None:
        self._server = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._sockets: set[socket.socket] = set()
        self._open = threading.Event()
        self._open.set()
        self._refuses = False
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()

    def cut(self) -> None:
        """Break every connection, and each new one at once."""
        self._refuses = True
        self._break()

    def freeze(self) -> None:
        """Pass nothing on, as if the server had stopped: connections stay, and nobody answers."""
        self._open.clear()

    def mend(self) -> None:
        """Let everything through again."""
        self._refuses = False
        self._open.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._refuses = True
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._acceptor.join()
        self._break()
        self._open.set()

    def _break(self) -> None:
        for connection in tuple(self._sockets):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with suppress(OSError):  # the listener was closed
            while True:
                client, _ = self._listener.accept()
                if self._refuses:
                    client.close()
                    continue
                server = socket.create_connection(self._server)
                self._sockets |= {client, server}
                threading.Thread(target=self._serve, args=(client, server), daemon=True).start()

    def _serve(self, client: socket.socket, server: socket.socket) -> None:
        back = threading.Thread(target=self._pump, args=(server, client), daemon=True)
        back.start()
        self._pump(client, server)
        back.join()
        for connection in (client, server):
            self._sockets.discard(connection)
            connection.close()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(CHUNK_BYTES):
                self._open.wait()
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)
