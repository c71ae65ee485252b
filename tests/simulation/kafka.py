"""A model of Kafka's brokers and of the publisher: batches take time, come twice, fail, or only seem to."""

import asyncio
import random
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple
from zlib import crc32

from runtime.kafka import Delivery, OnDelivery, Publisher
from runtime.kafka_transactions import LogTaken, Outgoing
from schemas import topics
from schemas.errors import ServerUnreachable
from tests.simulation.clock import at
from tests.simulation.loop import PROCESS, Process, SimLoop
from tests.simulation.postgres import Weather

Place = tuple[str, int]
Headers = Sequence[tuple[str, bytes | None]]

PARTITIONS: Final = {topic.name: topic.partitions for topic in topics.ALL}
RETRY_S: Final = 0.25


class SimRecord(NamedTuple):
    """A record in a log; a ``streams.chunks.Record``."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers


class Broker:
    """The logs. ``on_append`` is where the invariants look on."""

    def __init__(self, loop: SimLoop, rng: random.Random, world: Process) -> None:
        self.loop = loop
        self.rng = rng
        self.world = world
        self.weather = Weather()
        #: How likely a batch is appended twice (librdkafka#4953).
        self.duplicates = 0.0
        self.on_append: Callable[[SimRecord], None] = lambda _record: None
        self.closed = False
        #: Who owns the results (by how often they were taken over), and what was committed with the last batch: its
        #: source, and where each partition ended before it.
        self.log_epoch = 0
        self.mark: tuple[str, dict[int, int]] = ("", {})
        self._logs: dict[Place, list[SimRecord]] = {}
        self._waiting: dict[Place, list[asyncio.Future[None]]] = {}

    def end(self, place: Place) -> int:
        """The offset of the next record."""
        return len(self._logs.get(place, ()))

    def records(self, place: Place, offset: int, most: int) -> list[SimRecord]:
        """The records from an offset on."""
        return self._logs.get(place, [])[offset : offset + most]

    def topic(self, name: str) -> list[SimRecord]:
        """Everything in a topic."""
        return [record for partition in range(PARTITIONS[name]) for record in self._logs.get((name, partition), ())]

    def append(self, place: Place, key: bytes | None, value: bytes | None, headers: Headers) -> int:
        """Add a record; its offset."""
        log = self._logs.setdefault(place, [])
        stamp = int(at(self.loop.time()).timestamp() * 1_000)
        record = SimRecord(*place, len(log), stamp, key, value, headers)
        log.append(record)
        self.on_append(record)
        for future in self._waiting.pop(place, ()):
            if not future.done():
                future.set_result(None)
        return record.offset

    async def appended(self, place: Place, offset: int) -> None:
        """Wait until there is a record at the offset, and the fetch has brought it."""
        while self.end(place) <= offset:
            future = self.loop.create_future()
            self._waiting.setdefault(place, []).append(future)
            await future
        await self.reachable()
        await asyncio.sleep(self.delay_s())

    async def reachable(self) -> None:
        """Wait until the brokers answer."""
        while self.weather.away:  # noqa: ASYNC110  an outage has an end, and no event
            await asyncio.sleep(RETRY_S)

    def delay_s(self) -> float:
        """How long the next exchange takes."""
        stretch = 20.0 if self.rng.random() < 0.02 else 1.0
        return self.weather.latency_s * stretch * (0.5 + self.rng.random())

    def partition_of(self, topic: str, key: bytes | None) -> int:
        """Where a keyed record goes."""
        count = PARTITIONS[topic]
        return self.rng.randrange(count) if key is None else crc32(key) % count


@dataclass(frozen=True)
class _Message:
    key: bytes | None
    value: bytes | None
    headers: Headers
    on_delivery: OnDelivery | None


#: With the offset, or the error.
_Told = tuple[_Message, int, str | None]


class _Queue:
    """What a producer has for a partition, in its order."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.messages: deque[_Message] = deque()
        self.busy = False


class SimPublisher(Publisher):
    """A process' producer: what it holds when the process dies is lost from some point on."""

    def __init__(self, broker: Broker, source: str) -> None:
        self._bootstrap = "model"
        self._source = f"headrace/{source}"
        self._broker = broker
        self._process: Process = PROCESS.get()
        self._queues: dict[Place, _Queue] = {}

    def publish_raw(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        headers: Headers,
        partition: int = -1,
        on_delivery: OnDelivery | None = None,
    ) -> None:
        number = self._broker.partition_of(topic, key) if partition < 0 else partition
        queue = self._queues.get((topic, number))
        if queue is None:
            queue = self._queues[topic, number] = _Queue((topic, number))
        queue.messages.append(_Message(key, value, headers, on_delivery))
        self._send(queue)

    def flush(self, timeout_s: float) -> int:  # noqa: ARG002
        return 0

    def close(self, timeout_s: float = 10.0) -> None:
        """Nothing is open."""

    def _send(self, queue: _Queue) -> None:
        if not queue.busy and queue.messages:
            queue.busy = True
            self._broker.loop.call_in(self._broker.world, self._broker.delay_s(), self._arrive, queue)

    def _arrive(self, queue: _Queue) -> None:
        broker, rng, process = self._broker, self._broker.rng, self._process
        if broker.closed:
            return
        if not process.alive and rng.random() < 0.5:
            queue.messages.clear()
            return
        if broker.weather.away or (process.alive and process.frozen and rng.random() < 0.5):
            broker.loop.call_in(broker.world, RETRY_S, self._arrive, queue)
            return
        batch = list(queue.messages)
        queue.messages.clear()
        queue.busy = False
        if rng.random() < broker.weather.refused:
            reports: list[_Told] = [(message, -1, "Local: Message timed out") for message in batch]
        else:
            reports = self._append(queue.place, batch)
        told = [(message, offset, error) for message, offset, error in reports if message.on_delivery]
        if told:
            broker.loop.call_in(process, broker.delay_s(), _report, queue.place, told)

    def _append(self, place: Place, batch: Sequence[_Message]) -> list[_Told]:
        broker, rng = self._broker, self._broker.rng
        times = 2 if rng.random() < broker.duplicates else 1
        for _ in range(times):
            offsets = [broker.append(place, message.key, message.value, message.headers) for message in batch]
        error = "Local: Message timed out" if rng.random() < broker.weather.lost else None
        return [(message, offset, error) for message, offset in zip(batch, offsets, strict=True)]


class SimResultLog:
    """``runtime.kafka_transactions.TransactionalLog``: batches of the last owner, each whole or not there.

    The mark of a batch whose answer is lost may be there without it, or it without its mark.
    """

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._process = PROCESS.get()
        self._epoch = -1
        self._source = ""
        self._ends: dict[int, int] = {}

    async def open(self, source: str) -> bool:
        """Take the log over; whether the last batch came from ``source``."""
        await self._exchange(self._take_over)
        self._source = source
        last, ends = self._broker.mark
        self._ends = dict(ends) if last == source else {}
        return last == source

    async def landed(self, since: datetime) -> AsyncIterator[list[str]]:  # noqa: ARG002  (the model's topic is short)
        """The ids from where the partitions ended before the last batch."""
        ids: list[str] = []
        await self._exchange(lambda: ids.extend(self._read()))
        yield ids

    async def append(self, records: Sequence[Outgoing]) -> None:
        """Add records."""
        ends: dict[int, int] = {}
        await self._exchange(lambda: self._commit(records, ends), lambda: self._tear(records))
        self._ends = ends

    def _take_over(self) -> None:
        self._broker.log_epoch += 1
        self._epoch = self._broker.log_epoch

    def _read(self) -> list[str]:
        broker, found = self._broker, []
        for partition in range(PARTITIONS[topics.RESULTS.name]):
            place = (topics.RESULTS.name, partition)
            start, end = self._ends.get(partition, 0), broker.end(place)
            found += [dict(record.headers)["ce_id"] or b"" for record in broker.records(place, start, end - start)]
            self._ends[partition] = end
        return [event_id.decode() for event_id in found]

    def _commit(self, records: Sequence[Outgoing], ends: dict[int, int]) -> None:
        self._check()
        self._mark()
        self._add(records)
        ends.update(self._now())

    def _tear(self, records: Sequence[Outgoing]) -> None:
        """What a broker that lost its answer may have done."""
        self._check()
        if self._broker.rng.random() < 0.5:
            self._mark()
        if self._broker.rng.random() < 0.5:
            self._add(records)

    def _mark(self) -> None:
        self._broker.mark = (self._source, dict(self._ends))

    def _add(self, records: Sequence[Outgoing]) -> None:
        for record in records:
            place = (record.topic, self._broker.partition_of(record.topic, record.key))
            self._broker.append(place, record.key, record.value, list(record.headers))

    def _now(self) -> dict[int, int]:
        name = topics.RESULTS.name
        return {partition: self._broker.end((name, partition)) for partition in range(PARTITIONS[name])}

    def _check(self) -> None:
        if self._epoch != self._broker.log_epoch:
            raise LogTaken("Another process writes the results.")

    async def _exchange(self, effect: Callable[[], None], torn: Callable[[], None] | None = None) -> None:
        """Have the effect, or, where the answer is lost, ``torn`` instead."""
        broker = self._broker
        done = broker.loop.create_future()
        broker.loop.call_in(broker.world, broker.delay_s(), self._happen, effect, torn or effect, done)
        await done

    def _happen(self, effect: Callable[[], None], torn: Callable[[], None], done: "asyncio.Future[None]") -> None:
        broker, rng = self._broker, self._broker.rng
        error: Exception | None = None
        if broker.closed or (not self._process.alive and rng.random() < 0.5):
            return
        if broker.weather.away or rng.random() < broker.weather.refused:
            error = ServerUnreachable("Kafka", "model", "the coordinator does not answer")
        else:
            lost = rng.random() < broker.weather.lost
            try:
                (torn if lost else effect)()
            except LogTaken as taken:
                error = taken
            if lost:
                error = ServerUnreachable("Kafka", "model", "the answer was lost")
        broker.loop.call_in(self._process, broker.delay_s(), _answer, done, error)


def _answer(done: "asyncio.Future[None]", error: Exception | None) -> None:
    if done.done():
        return
    if error:
        done.set_exception(error)
    else:
        done.set_result(None)


def _report(place: Place, told: Sequence[_Told]) -> None:
    for message, offset, error in told:
        if message.on_delivery:
            message.on_delivery(Delivery(*place, -1 if error else offset, error))
