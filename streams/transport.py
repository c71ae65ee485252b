"""Kafka for Faust in chunks: an agent gets one event for up to 500 records of a partition, not one for each.

Stock Faust spends most of its time on bookkeeping a record: 6,000 records/s on one core, where this
reads 39,000 and more. What an agent owes: it takes ``stream.noack().events()`` and calls
``event.ack()`` once everything that the chunk asks for is durable. Offsets are committed up to the
first chunk that is not acknowledged, so nothing is skipped, and a chunk may come again.
"""

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, cast

from aiokafka import TopicPartition
from aiokafka.errors import IllegalStateError
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage, Message
from mode.utils.locks import Event

from streams.chunks import CHUNK_RECORDS, Chunk, Record, chunks
from streams.in_flight import InFlight
from streams.loop_consumer import LoopConsumer
from streams.salvage import salvage

#: How long a round of the fetcher waits for records.
FETCH_S: Final = 1.0
SLOW_FETCH_MS: Final = 20


class ChunkedConsumer(driver.Consumer):
    """Faust's consumer, but for how records are handed on and which offsets are committed."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._in_flight: defaultdict[TP, InFlight] = defaultdict(InFlight)
        # The offset from which on the next chunk is read, and whether Kafka's client reads from there.
        self._next: dict[TP, int] = {}
        self._placed = False
        # How many records of a partition are fetched at most, while there is one that can't be read.
        self._most: int | None = None
        self._acknowledged = Event()
        super().__init__(*args, **kwargs)

    def ack(self, message: Message) -> bool:
        """Note that a chunk is durable; its offset is committed once those before it are."""
        acknowledged: bool = super().ack(message)
        self._acknowledged.set()
        return acknowledged

    def in_flight(self, tp: TP) -> int:
        """How many chunks of the partition are not acknowledged, or follow one that is not."""
        return len(self._in_flight[tp])

    async def commit(self, topics: Any = None, start_new_transaction: bool = True) -> bool:
        """Commit what is durable by now.

        Faust's own ends with a commit that it finds on its way, which has not seen what was acknowledged since: at
        a stop or a rebalance that would be read again by the next owner.
        """
        while await self.maybe_wait_for_commit_to_finish():
            pass
        committed: bool = await super().commit(topics, start_new_transaction)
        return committed

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
        self._in_flight[tp].settle()
        return self._in_flight[tp].durable

    def _forget(self) -> None:
        self._in_flight.clear()
        self._next = {}
        self._placed = False

    async def _drain_once(self) -> None:
        if not self.flow_active:
            await self.wait(self.can_resume_flow.wait())
        generation = self.app.consumer_generation_id
        if not self._placed:
            await self._place(generation)
            return
        self._acknowledged.clear()
        ready = {tp for tp in self._get_active_partitions() if not self._in_flight[tp].full}
        # Without a partition, aiokafka would give records of all of them.
        if not ready:
            await self.wait(self._acknowledged, timeout=FETCH_S)
            return
        for tp, records in (await self._fetched(ready)).items():
            await self._hand_on(generation, tp, records)

    async def _fetched(self, ready: set[TP]) -> dict[TP, Sequence[Record]]:
        """The next records of the partitions.

        A record that the client can't read (see ``salvage``) spoils the fetch that it is in. So less
        and less is fetched until it is alone; it is read by other means, and then more and more is.
        """
        if self._most is None:
            try:
                fetched: Mapping[TP, Sequence[Record]] = await self._getmany(ready, FETCH_S)
            except UnicodeDecodeError:
                self._fetch_less(CHUNK_RECORDS)
                return {}
            return {TP(*tp): records for tp, records in fetched.items()}
        found: dict[TP, Sequence[Record]] = {}
        for tp in ready:
            try:
                found[tp] = await self._fetch(tp, self._most)
            except UnicodeDecodeError:
                if self._most == 1:
                    self._placed = False
                    return found | {tp: await self._salvage(tp)}
                self._fetch_less(self._most)
                return found
        self._most = 2 * self._most if self._most < CHUNK_RECORDS else None
        return found

    def _fetch_less(self, than: int) -> None:
        self._most = max(than // 8, 1)
        # The fetch has lost what it had read by then.
        self._placed = False

    async def _fetch(self, tp: TP, most: int) -> Sequence[Record]:
        getmany = self._thread._ensure_consumer().getmany
        place = TopicPartition(*tp)
        fetched = await self._thread.call_thread(getmany, place, timeout_ms=SLOW_FETCH_MS, max_records=most)
        records: Sequence[Record] = fetched.get(place, ())
        return records

    async def _salvage(self, tp: TP) -> Sequence[Record]:
        transport = cast(driver.Transport, self.transport)
        servers = ",".join(driver.server_list(transport.url, transport.default_port))
        return await asyncio.to_thread(salvage, servers, *tp, self._next[tp])

    async def _place(self, generation: int) -> None:
        """Read each partition from the record on that comes next: the one after the last that was handed on.

        Faust does so after a rebalance, but only where an offset was ever committed, and a fetch from
        before it may return afterwards: what it took from the new assignment would be left out.
        """
        assigned = self.assignment()
        committed = {tp: offset for tp in assigned if (offset := self._committed_offset[tp])}
        # Offset 0 is not counted as committed, by Faust either, and may have been deleted since.
        unread = assigned - committed.keys() - self._next.keys()
        earliest = await self.earliest_offsets(*unread) if unread else {}
        places = {TP(*tp): offset for tp, offset in earliest.items()} | committed | self._next

        async def seek() -> None:
            # Unless they were revoked in the meantime: then this is done again.
            with suppress(IllegalStateError):
                for tp, offset in places.items():
                    self._thread.seek(tp, offset)

        await self._thread.call_thread(seek)
        if not self._outdated(generation):
            self._next = places
            self._placed = True

    async def _hand_on(self, generation: int, tp: TP, records: Sequence[Record]) -> None:
        """Give the records to the partition's agent, in chunks; those of an assignment that is over are dropped."""
        for chunk in chunks(record for record in records if record.offset >= self._next.get(tp, 0)):
            message, in_flight = self._message(generation, tp, chunk), self._in_flight[tp]
            # Noted first: its agent may be done with it, and the process told to stop, before the callback returns.
            in_flight.add(message, chunk)
            if not self._outdated(generation):
                await self.wait_first(self.callback(message), self.suspend_flow.wait())
            if self._outdated(generation):
                # It comes again; twice, where its agent has it by now.
                in_flight.take_back(message)
                self._placed = False
                return
            self._next[tp] = chunk[-1].offset + 1

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
        return LoopConsumer(self, loop=self.loop, thread_loop=self.loop, beacon=self.beacon)


class ChunkedTransport(driver.Transport):
    """Faust's transport with the chunked consumer."""

    Consumer = ChunkedConsumer
