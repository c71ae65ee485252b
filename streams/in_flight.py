"""The chunks of a partition that are with its agent."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from faust.types import ConsumerMessage

from streams.chunks import CHUNK_BYTES, CHUNK_RECORDS, Record, size_bytes

#: Four full chunks may be with the agent. What comes record by record counts by its records: where one partition is not
#: read on, Kafka's client waits with all that the same broker has.
MOST_RECORDS: Final = 4 * CHUNK_RECORDS
MOST_BYTES: Final = 4 * CHUNK_BYTES


@dataclass(frozen=True)
class _Run:
    message: ConsumerMessage
    #: The offset after the last record.
    end: int
    records: int
    size_bytes: int


class InFlight:
    """In the order of the offsets; from one assignment to the next."""

    def __init__(self) -> None:
        self._runs: deque[_Run] = deque()
        self._records = 0
        self._bytes = 0
        #: The offset up to which every chunk is acknowledged.
        self.durable: int | None = None

    def __len__(self) -> int:
        """How many chunks are not acknowledged, or follow one that is not."""
        self.settle()
        return len(self._runs)

    @property
    def full(self) -> bool:
        """Whether the agent has enough to do; one fetch may go beyond it."""
        self.settle()
        return self._records >= MOST_RECORDS or self._bytes >= MOST_BYTES

    def add(self, message: ConsumerMessage, chunk: Sequence[Record]) -> None:
        """Note a chunk, and the message by which the agent acknowledges it."""
        run = _Run(message, chunk[-1].offset + 1, len(chunk), size_bytes(chunk))
        self._runs.append(run)
        self._records += run.records
        self._bytes += run.size_bytes

    def take_back(self, message: ConsumerMessage) -> None:
        """Forget the last chunk if it is this one, and not acknowledged: it comes again."""
        if self._runs and self._runs[-1].message is message and not message.acked:
            self._leave(self._runs.pop())

    def settle(self) -> None:
        """Note how far everything is durable by now."""
        while self._runs and self._runs[0].message.acked:
            run = self._runs.popleft()
            self._leave(run)
            self.durable = run.end

    def _leave(self, run: _Run) -> None:
        self._records -= run.records
        self._bytes -= run.size_bytes
