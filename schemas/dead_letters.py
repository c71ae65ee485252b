"""What is said of a record that could not be admitted; its key, value and headers stay as they came."""

from collections.abc import Iterable
from typing import Final

import msgspec
from msgspec import Struct, structs

#: The header that carries each field of a dead letter (design, section 2).
HEADERS: Final = {
    "topic": "dlq.topic",
    "partition": "dlq.partition",
    "offset": "dlq.offset",
    "timestamp_ms": "dlq.timestamp",
    "attempts": "dlq.attempts",
    "error_code": "dlq.error.code",
    "error_message": "dlq.error.message",
}


class DeadLetter(Struct, frozen=True, kw_only=True):
    """Where the record was, and why it was refused. ``timestamp_ms`` counts from the Unix epoch."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    attempts: int
    error_code: str
    error_message: str

    @classmethod
    def of_headers(cls, headers: Iterable[tuple[str, bytes | None]]) -> "DeadLetter":
        """What the headers of a dead letter say.

        Raises:
            msgspec.ValidationError: one is missing or of the wrong form.
        """
        names = {header: name for name, header in HEADERS.items()}
        fields = {names[name]: (value or b"").decode(errors="replace") for name, value in headers if name in names}
        return msgspec.convert(fields, cls, strict=False)

    def headers(self) -> list[tuple[str, bytes]]:
        """The headers that a dead letter has beside the original's, each as text."""
        return [(HEADERS[name], str(value).encode(errors="replace")) for name, value in structs.asdict(self).items()]
