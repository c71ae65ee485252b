"""Kafka for Faust in chunks: an agent gets one event for up to 500 records of a partition, not one for each.

Stock Faust spends most of its time on bookkeeping a record: 6,000 records/s on one core, where this
reads 39,000 and more. What an agent owes: it takes ``stream.noack().events()`` and calls
``event.ack()`` once everything that the chunk asks for is durable. Offsets are committed up to the
first chunk that is not acknowledged, so nothing is skipped, and a chunk may come again.
"""

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Protocol, cast

from aiokafka.errors import IllegalStateError
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage, Message
from mode.utils.locks import Event

#: An agent's transaction: large enough to spread its cost, small enough to take some milliseconds.
CHUNK_RECORDS: Final = 500
#: Requests near the size limit make smaller chunks, or a few of them would hold gigabytes.
CHUNK_BYTES: Final = 4 * 1024**2
#: With so many chunks unacknowledged, a partition is not read on; one fetch may go beyond it.
CHUNKS_IN_FLIGHT: Final = 4
#: How long a round of the fetcher waits for records, and how long the broker lets one fetch wait.
FETCH_S: Final = 1.0
FETCH_WAIT_MS: Final = 100


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
    """Consecutive records of one partition."""

    records: Sequence[Record]


@dataclass(frozen=True)
class _Run:
    """A chunk that was handed to an agent. ``end`` is the offset after its last record."""

    message: ConsumerMessage
    end: int


class ChunkedConsumer(driver.Consumer):
    """Faust's consumer, but for how records are handed on and which offsets are committed."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # By partition, in the order of the offsets; from one assignment to the next.
        self._runs: defaultdict[TP, deque[_Run]] = defaultdict(deque)
        # The offset from which on the next chunk is read, and whether Kafka's client reads from there.
        self._next: dict[TP, int] = {}
        self._placed = False
        self._durable: dict[TP, int] = {}
        self._acknowledged = Event()
        super().__init__(*args, **kwargs)

    def ack(self, message: Message) -> bool:
        """Note that a chunk is durable; its offset is committed once those before it are."""
        acknowledged: bool = super().ack(message)
        self._acknowledged.set()
        return acknowledged

    def in_flight(self, tp: TP) -> int:
        """How many chunks of the partition are not acknowledged, or follow one that is not."""
        runs = self._runs[tp]
        while runs and runs[0].message.acked:
            self._durable[tp] = runs.popleft().end
        return len(runs)

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Commit what is durable before another process takes over, then forget what is in flight."""
        await self.commit()
        self._forget()
        await super().on_partitions_revoked(revoked)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Begin anew at the committed offsets.

        A chunk of the assignment before, which an agent may still have, no longer counts: its offsets
        belong to whoever owns the partition now.
        """
        self._forget()
        await super().on_partitions_assigned(assigned, generation_id)

    async def _drain_messages(self, fetcher: Any) -> None:
        """Hand on what is fetched, until the fetcher is stopped."""
        try:
            while not (self.should_stop or fetcher.should_stop):
                await self._drain_once()
        except self.consumer_stopped_errors:
            if not self.app.should_stop:
                raise

    def _new_offset(self, tp: TP) -> int | None:
        """The offset up to which every chunk of the partition is acknowledged."""
        # Faust's own list of acknowledged offsets, which would grow for ever.
        self._acked[tp].clear()
        self._acked_index[tp].clear()
        self.in_flight(tp)
        return self._durable.get(tp)

    def _forget(self) -> None:
        self._runs.clear()
        self._next = {}
        self._durable.clear()
        self._placed = False

    async def _drain_once(self) -> None:
        if not self.flow_active:
            await self.wait(self.can_resume_flow.wait())
        generation = self.app.consumer_generation_id
        if not self._placed:
            await self._place(generation)
            return
        self._acknowledged.clear()
        ready = {tp for tp in self._get_active_partitions() if self.in_flight(tp) < CHUNKS_IN_FLIGHT}
        # Without a partition, aiokafka would give records of all of them.
        if not ready:
            await self.wait(self._acknowledged, timeout=FETCH_S)
            return
        batches: Mapping[TP, list[Record]] = await self._getmany(ready, FETCH_S)
        for tp, records in batches.items():
            await self._hand_on(generation, TP(tp.topic, tp.partition), records)

    async def _place(self, generation: int) -> None:
        """Read each partition from the record on that comes next: the one after the last that was handed on.

        Faust does so after a rebalance, but only where an offset was ever committed, and a fetch from
        before it may return afterwards: what it took from the new assignment would be left out.
        """
        assigned = self.assignment()
        unknown = [tp for tp in assigned if tp not in self._next and not self._committed_offset[tp]]
        earliest = await self.earliest_offsets(*unknown) if unknown else {}
        places = {tp: self._next.get(tp) or self._committed_offset[tp] or earliest[tp] for tp in assigned}

        async def seek() -> None:
            # Unless they were revoked in the meantime: then this is done again.
            with suppress(IllegalStateError):
                for tp, offset in places.items():
                    self._thread.seek(tp, offset)

        await self._thread.call_thread(seek)
        if not self._outdated(generation):
            self._next = places
            self._placed = True

    async def _hand_on(self, generation: int, tp: TP, records: list[Record]) -> None:
        """Give the records to the partition's agent, in chunks; those of an assignment that is over are dropped."""
        for chunk in chunks(record for record in records if record.offset >= self._next.get(tp, 0)):
            message = self._message(generation, tp, chunk)
            if not self._outdated(generation):
                await self.wait_first(self.callback(message), self.suspend_flow.wait())
            if self._outdated(generation):
                self._placed = False
                return
            end = chunk[-1].offset + 1
            self._runs[tp].append(_Run(message, end))
            self._next[tp] = end

    def _outdated(self, generation: int) -> bool:
        return not self.flow_active or self.should_stop or generation != self.app.consumer_generation_id

    def _message(self, generation: int, tp: TP, chunk: Sequence[Record]) -> ConsumerMessage:
        first = chunk[0]
        return ConsumerMessage(
            topic=tp.topic,
            partition=tp.partition,
            offset=first.offset,
            timestamp=first.timestamp / 1000,
            timestamp_type=0,
            headers=None,
            key=None,
            value=cast(bytes, Chunk(chunk)),
            checksum=None,
            tp=tp,
            generation_id=generation,
        )

    def _new_consumer_thread(self) -> driver.AIOKafkaConsumerThread:
        return _ConsumerThread(self, loop=self.loop, beacon=self.beacon)


class _ConsumerThread(driver.AIOKafkaConsumerThread):
    def _create_worker_consumer(self, transport: driver.Transport) -> Any:
        consumer = super()._create_worker_consumer(transport)
        # Faust has settings for neither, and aiokafka reads both when it is started.
        # By default, what was never committed is read too: a request that its client aborted would run.
        consumer._isolation_level = "read_committed"
        # One fetch waits at a time, and not for partitions whose records are not taken yet. They would
        # be read on after 1.5 s only.
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS
        return consumer


class ChunkedTransport(driver.Transport):
    """Faust's transport with the chunked consumer."""

    Consumer = ChunkedConsumer


def chunks(records: Iterable[Record]) -> Iterator[list[Record]]:
    """Cut records into chunks, in order; each has at least one record and keeps both limits, or is one record."""
    chunk: list[Record] = []
    size_bytes = 0
    for record in records:
        record_bytes = len(record.value or b"")
        if chunk and (len(chunk) == CHUNK_RECORDS or size_bytes + record_bytes > CHUNK_BYTES):
            yield chunk
            chunk, size_bytes = [], 0
        chunk.append(record)
        size_bytes += record_bytes
    if chunk:
        yield chunk
