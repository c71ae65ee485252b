"""Records of a topic which an agent handles as one."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

#: An agent's transaction: large enough to spread its cost, small enough to take some milliseconds.
CHUNK_RECORDS: Final = 500
#: Requests near the size limit make smaller chunks, or a few of them would hold gigabytes.
CHUNK_BYTES: Final = 4 * 1024**2


class Record(Protocol):
    """One record as Kafka gave it."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int:
        """Milliseconds since 1970, or -1."""

    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes | None]]: ...


@dataclass(frozen=True)
class Chunk:
    """Records of one topic, at least one: of each partition consecutive ones, in their order."""

    records: Sequence[Record]


def size_bytes(records: Iterable[Record]) -> int:
    """How much memory their values take."""
    return sum(len(record.value or b"") for record in records)


def chunks(records: Iterable[Record]) -> Iterator[list[Record]]:
    """Cut records into chunks, in order; each has at least one record and keeps both limits, or is one record."""
    chunk: list[Record] = []
    total_bytes = 0
    for record in records:
        record_bytes = len(record.value or b"")
        if chunk and (len(chunk) == CHUNK_RECORDS or total_bytes + record_bytes > CHUNK_BYTES):
            yield chunk
            chunk, total_bytes = [], 0
        chunk.append(record)
        total_bytes += record_bytes
    if chunk:
        yield chunk
