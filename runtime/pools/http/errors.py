"""The errors of HTTP requests.

::

    HeadraceError
    └── HttpError
        ├── HostUnreachable     no connection: nothing was sent (retryable)
        ├── HostTimeout         sent, and no whole answer in time (retryable)
        ├── HostDisconnected    sent, and the connection broke before the whole answer (retryable)
        ├── HostBusy            429, 502, 503 or 504 (retryable); says when to come back, if the host did
        ├── HostFailed          another 5xx: the host can't do this
        ├── RequestRejected     a 4xx but 429: this request will not be answered
        ├── InvalidHttpRequest  it can't even be sent
        └── InvalidAnswer       what came back can't be decoded

Retryable means that it may go well at another time, for somebody who knows that the request may be repeated: it may
have been carried out. Those that surely may are repeated by the pool itself, before any of these is raised.
"""

from schemas.errors import HeadraceError, printable

#: Of an answer's body, in a message.
EXCERPT_BYTES = 400


class HttpError(HeadraceError):
    """A request that has no answer to work with; ``attempts`` were made in all."""

    code = "http"
    attempts = 1

    def __init__(self, where: str, reason: str) -> None:
        self.where = where
        super().__init__(f"{where}: {reason}")

    def __str__(self) -> str:
        tries = f" ({self.attempts} attempts)" if self.attempts > 1 else ""
        return f"{super().__str__()}{tries}"


class HostUnreachable(HttpError):
    """There is no connection: nothing was sent (retryable)."""

    code = "host_unreachable"
    retryable = True


class HostTimeout(HttpError):
    """It was sent, and no whole answer came in time; it may have been carried out (retryable)."""

    code = "host_timeout"
    retryable = True


class HostDisconnected(HttpError):
    """The connection broke before the whole answer was there; it may have been carried out (retryable)."""

    code = "host_disconnected"
    retryable = True


class HttpStatusError(HttpError):
    """The answer is an error; ``status`` and the beginning of its body are kept."""

    def __init__(self, where: str, status: int, body: bytes) -> None:
        self.status = status
        self.excerpt = printable(body[:EXCERPT_BYTES].decode(errors="replace"))
        super().__init__(where, f"status {status}: {self.excerpt}" if body else f"status {status}")


class HostBusy(HttpStatusError):
    """429, 502, 503 or 504; ``retry_after_s`` says when the host wants to be asked again, if it does (retryable)."""

    code = "host_busy"
    retryable = True

    def __init__(self, where: str, status: int, body: bytes, retry_after_s: float | None) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(where, status, body)


class HostFailed(HttpStatusError):
    """A 5xx that no repetition changes."""

    code = "host_failed"


class RequestRejected(HttpStatusError):
    """A 4xx: this request will not be answered; change it."""

    code = "request_rejected"


class InvalidHttpRequest(HttpError):
    """The request can't be sent as it is."""

    code = "invalid_http_request"


class InvalidAnswer(HttpError):
    """The answer's body is not what its headers say."""

    code = "invalid_answer"
