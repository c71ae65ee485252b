"""An HTTP/1.1 server whose paths say what it does with a request."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

#: Longer than any test waits.
HANG_S: Final = 20.0


class Host:
    """A running server, what it has seen, and how it shall behave."""

    def __init__(self) -> None:
        #: Requests by method and path, and the sockets on which they came.
        self.requests: Counter[str] = Counter()
        self.connections = 0
        self.lock = threading.Lock()
        self.together = self.most_together = 0
        #: Statuses for the next requests to ``/scripted``, with a ``Retry-After``.
        self.script: list[tuple[int, str]] = []
        self.cookies: list[str | None] = []
        #: Released by each request to ``/hang``, which waits for ``resume``.
        self.hung = threading.Semaphore(0)
        self.resume = threading.Event()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        host = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                with host.lock:
                    host.connections += 1

            def log_message(self, format: str, *args: Any) -> None:
                pass

            def answer(self) -> None:
                path = self.path.partition("?")[0]
                content = self.rfile.read(int(self.headers.get("content-length", 0)))
                with host.lock:
                    host.requests[f"{self.command} {path}"] += 1
                    host.cookies.append(self.headers.get("cookie"))
                    host.together += 1
                    host.most_together = max(host.most_together, host.together)
                try:
                    self.behave(path, content)
                finally:
                    with host.lock:
                        host.together -= 1

            def behave(self, path: str, content: bytes) -> None:
                match path:
                    case "/hang":
                        host.hung.release()
                        host.resume.wait(HANG_S)
                        self.say(200, b"at last")
                    case "/drop":
                        self.close_connection = True
                    case "/half":
                        self.send_response(200)
                        self.send_header("Content-Length", "1000")
                        self.end_headers()
                        self.wfile.write(b"half")
                        self.close_connection = True
                    case "/drip":
                        self.send_response(200)
                        self.send_header("Content-Length", "1000")
                        self.end_headers()
                        self.drip()
                    case "/scripted":
                        status, retry_after = host.script.pop(0) if host.script else (200, "")
                        self.say(status, b"scripted", retry_after)
                    case "/echo":
                        self.say(200, content)
                    case _:
                        self.say(200, path.encode())

            def drip(self) -> None:
                for _ in range(1000):
                    try:
                        self.wfile.write(b".")
                    except OSError:
                        break
                    if host.resume.wait(0.02):
                        break
                self.close_connection = True

            def say(self, status: int, content: bytes, retry_after: str = "") -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.send_header("Set-Cookie", "session=secret")
                if retry_after:
                    self.send_header("Retry-After", retry_after)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content)

            do_GET = do_POST = do_PUT = do_HEAD = answer  # noqa: N815  # the library's names

        return Handler


@contextmanager
def running() -> Iterator[Host]:
    """A server for the time of the block."""
    host = Host()
    thread = threading.Thread(target=host.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield host
    finally:
        host.resume.set()
        host.server.shutdown()
        host.server.server_close()
        thread.join()
