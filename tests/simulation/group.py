"""A model of the dispatchers' consumer group: partitions move, chunks are read again, stale commits are refused.

It does what ``streams.app`` and ``streams.transport`` do with Faust: an agent a topic, with one chunk or two at a
time, offsets committed up to the first chunk that is not handled.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from schemas import topics
from streams.chunks import Chunk
from streams.intake import AT_ONCE
from tests.simulation.kafka import Broker, Place
from tests.simulation.loop import Process

Handle = Callable[[Chunk], Awaitable[None]]

READ: Final = (*topics.REQUESTS.values(), topics.CONTROL)
#: The partitions of the request topics and of the control topic.
PLACES: Final = tuple((topic.name, number) for topic in READ for number in range(topic.partitions))
HEARTBEATS: Final[Place] = (topics.WORKERS.name, 0)
#: As Faust's settings in ``streams.app``, but shorter, so that a simulation has time for many rebalances.
SESSION_S: Final = 4.0
HEARTBEAT_S: Final = 1.0
COMMIT_S: Final = 1.0
CHUNK_RECORDS: Final = 8


class Coordinator:
    """Kafka's group coordinator: who is a member, and which partitions are whose in which generation."""

    def __init__(self, broker: Broker, places: tuple[Place, ...]) -> None:
        self._broker = broker
        self._places = places
        self.generation = 0
        self.offsets: dict[Place, int] = {}
        self._members: dict[Process, float] = {}

    def heartbeat(self, member: Process) -> int:
        """Join, or stay; the generation."""
        now_s = self._broker.loop.time()
        silent = [other for other, seen_s in self._members.items() if seen_s < now_s - SESSION_S]
        if silent or member not in self._members:
            self.generation += 1
        for other in silent:
            del self._members[other]
        self._members[member] = now_s
        return self.generation

    def leave(self, member: Process) -> None:
        """Go; the others divide what it had."""
        if self._members.pop(member, None) is not None:
            self.generation += 1

    def assignment(self, member: Process) -> list[Place]:
        """The member's partitions in this generation, by round robin."""
        members = list(self._members)
        if member not in self._members:
            return []
        own = (members.index(member) + self.generation) % len(members)
        return [place for index, place in enumerate(self._places) if index % len(members) == own]

    def commit(self, generation: int, offsets: Mapping[Place, int]) -> bool:
        """Note how far partitions were handled; False, and nothing, from a generation that is over."""
        if generation != self.generation:
            return False
        self.offsets.update(offsets)
        return True


@dataclass
class _Reading:
    """One generation of a member: its readers, and how far each partition was handled."""

    generation: int
    handled: dict[Place, int] = field(default_factory=dict)
    tasks: list["asyncio.Task[None]"] = field(default_factory=list)


@dataclass(frozen=True)
class _Run:
    """A chunk that was handed to an agent, and the offset after its last record."""

    task: "asyncio.Task[None]"
    end: int


def _at_once(topic: str) -> int:
    """How many chunks of a topic its agent takes at once, as in ``streams.__main__``."""
    return AT_ONCE if topic in {requests.name for requests in topics.REQUESTS.values()} else 1


class Membership:
    """One process in the group: an agent for each topic, and what it tells of its partitions."""

    def __init__(
        self,
        coordinator: Coordinator,
        broker: Broker,
        process: Process,
        agents: Mapping[str, Handle],
        assigned: Callable[[set[Place]], None],
        revoked: Callable[[], None],
    ) -> None:
        self._coordinator = coordinator
        self._broker = broker
        self._process = process
        self._agents = agents
        self._turns = {topic: asyncio.Semaphore(_at_once(topic)) for topic in agents}
        self._assigned = assigned
        self._revoked = revoked
        self._reading = _Reading(-1)
        #: The first error of an agent: Faust's supervisor ends the process by it.
        self.crashed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """Be a member until cancelled."""
        try:
            while True:
                if not self._broker.weather.away:
                    await self._beat()
                await asyncio.sleep(HEARTBEAT_S)
        finally:
            self._stop_reading()

    def leave(self) -> None:
        """Commit, and give the partitions up at once."""
        self._commit()
        self._coordinator.leave(self._process)

    async def _beat(self) -> None:
        generation = self._coordinator.heartbeat(self._process)
        if generation == self._reading.generation:
            self._commit()
            return
        # The partitions move: what was handled is committed if the generation still counts, then all is forgotten.
        self._commit()
        self._stop_reading()
        self._revoked()
        await asyncio.sleep(self._broker.delay_s())
        self._reading = reading = _Reading(self._coordinator.heartbeat(self._process))
        places = self._coordinator.assignment(self._process)
        self._assigned(set(places))
        reading.tasks = [
            asyncio.create_task(self._read(reading, place)) for place in places if place[0] in self._agents
        ]

    def _commit(self) -> None:
        self._coordinator.commit(self._reading.generation, self._reading.handled)

    def _stop_reading(self) -> None:
        for task in self._reading.tasks:
            task.cancel()
        self._reading = _Reading(-1)

    async def _read(self, reading: _Reading, place: Place) -> None:
        offset = self._coordinator.offsets.get(place, 0)
        topic = place[0]
        runs: deque[_Run] = deque()
        while True:
            await self._broker.appended(place, offset)
            records = self._broker.records(place, offset, CHUNK_RECORDS)
            offset = records[-1].offset + 1
            # A task of its own: an agent finishes its chunk also when the partition has moved away meanwhile.
            task = asyncio.create_task(self._handle(topic, Chunk(records)))
            runs.append(_Run(task, offset))
            task.add_done_callback(partial(self._settle, reading, place, runs))
            if len(runs) >= _at_once(topic):
                first = runs[0].task
                await asyncio.wait([first])
                # An error of the agent ends the process.
                first.result()

    def _settle(self, reading: _Reading, place: Place, runs: "deque[_Run]", _task: object) -> None:
        """Note how far the partition was handled: to the end of the last chunk before one that was not."""
        while runs and runs[0].task.done() and not runs[0].task.cancelled() and not runs[0].task.exception():
            reading.handled[place] = runs.popleft().end

    async def _handle(self, topic: str, chunk: Chunk) -> None:
        try:
            async with self._turns[topic]:
                await self._agents[topic](chunk)
        except Exception as error:
            if not self.crashed.done():
                self.crashed.set_exception(error)
            raise
