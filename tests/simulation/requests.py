"""The request topics beside the consumer group, as ``streams.request_log`` reads them for the reconciler."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Final

from schemas import topics
from schemas.errors import ServerUnreachable
from streams.chunks import Record
from tests.simulation.group import Coordinator
from tests.simulation.kafka import Broker, Place

COMPARED: Final = tuple(
    (topic.name, number)
    for topic in (*topics.DEAD_LETTERS.values(), *topics.REQUESTS.values())
    for number in range(topic.partitions)
)
CHUNK_RECORDS: Final = 50


class SimRequestLog:
    """A ``streams.reconciler.RequestLog``."""

    def __init__(self, broker: Broker, coordinator: Coordinator) -> None:
        self._broker = broker
        self._coordinator = coordinator

    async def ends(self) -> Mapping[Place, int]:
        """Where each partition ends."""
        self._reach()
        return {place: self._broker.end(place) for place in COMPARED}

    async def committed(self) -> Mapping[Place, int]:
        """Up to where the group has read."""
        self._reach()
        requests = {topic.name for topic in topics.REQUESTS.values()}
        return {place: self._coordinator.offsets.get(place, 0) for place in COMPARED if place[0] in requests}

    async def records(self, place: Place, start: int, end: int) -> AsyncIterator[Sequence[Record]]:
        """The records of a partition, in chunks."""
        for offset in range(start, end, CHUNK_RECORDS):
            self._reach()
            yield self._broker.records(place, offset, min(CHUNK_RECORDS, end - offset))

    def _reach(self) -> None:
        if self._broker.weather.away:
            raise ServerUnreachable("Kafka", "model", "the brokers are away")
