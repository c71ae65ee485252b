"""A client that wants something of its jobs: it cancels some, pauses others, and resumes what it has paused."""

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import Final

from confluent_kafka import KafkaException

from runtime.kafka import Delivery, Publisher
from schemas import topics
from schemas.codec import encode
from schemas.errors import ServerUnreachable
from schemas.events import ControlEvent

log = logging.getLogger(__name__)

#: How likely a job that was just submitted is cancelled, or paused; one that runs for long more often.
CANCELLED: Final = 0.02
PAUSED: Final = 0.03
LONG: Final = 8
#: How long after its submission, and how long it is paused.
AFTER_S: Final = (0.0, 1.5)
PAUSE_S: Final = (0.5, 3.0)
#: How often what is paused is resumed in the end, until Kafka has taken it, and for how long.
AGAIN_S: Final = 0.5
PATIENCE_S: Final = 40.0


#: Tenant and id of a job.
Key = tuple[str, str]


class Action(StrEnum):
    """What is wanted."""

    CANCEL = "cancel"
    PAUSE = "pause"
    RESUME = "resume"


@dataclass(frozen=True)
class Wished:
    """A wish about a job; ``taken_s`` is when Kafka said that it has it, by the machine's monotonic clock."""

    key: Key
    action: Action
    taken_s: float | None


class Wanting:
    """Sends the wishes; ``wished`` has them all."""

    def __init__(self, publisher: Publisher, seed: int) -> None:
        self._publisher = publisher
        self._random = Random(f"headrace wishes {seed}")
        self._due: list[tuple[float, Key, Action]] = []
        self._paused: set[Key] = set()
        self._sent: list[tuple[Key, Action]] = []
        #: Written by the publisher's thread.
        self._taken_s: dict[int, float] = {}

    @property
    def wished(self) -> Sequence[Wished]:
        """What was wished so far."""
        return [Wished(key, action, self._taken_s.get(number)) for number, (key, action) in enumerate(self._sent)]

    def submitted(self, key: Key, *, is_long: bool) -> None:
        """A job was submitted: perhaps something will be wanted of it."""
        drawn = self._random.random() / (LONG if is_long else 1)
        at_s = time.monotonic() + self._random.uniform(*AFTER_S)
        if drawn < CANCELLED:
            self._due.append((at_s, key, Action.CANCEL))
        elif drawn < CANCELLED + PAUSED:
            self._due.append((at_s, key, Action.PAUSE))
            self._due.append((at_s + self._random.uniform(*PAUSE_S), key, Action.RESUME))

    def send_due(self) -> None:
        """Send what it is time for."""
        now_s = time.monotonic()
        due = sorted(item for item in self._due if item[0] <= now_s)
        self._due = [item for item in self._due if item[0] > now_s]
        for _, key, action in due:
            self._send(key, action)

    async def resume_all(self) -> None:
        """Resume what was ever paused, until Kafka has all of that: whatever became of the wishes before."""
        end_s = time.monotonic() + PATIENCE_S
        left = set(self._paused)
        while left and time.monotonic() < end_s:
            first = len(self._sent)
            for key in left:
                self._send(key, Action.RESUME)
            await asyncio.to_thread(self._publisher.flush, AGAIN_S)
            taken = {self._sent[number][0] for number in self._taken_s if number >= first}
            left -= taken
        if left:
            log.warning("%d jobs may be paused for ever: Kafka took no wish about them", len(left))

    def _send(self, key: Key, action: Action) -> None:
        number = len(self._sent)
        self._sent.append((key, action))
        if action is Action.PAUSE:
            self._paused.add(key)
        tenant, job_id = key
        event = ControlEvent(action=action.value, job_id=job_id, tenant=tenant, reason="the harness wants it")

        def told(delivery: Delivery) -> None:
            if delivery.error is None:
                self._taken_s[number] = time.monotonic()

        try:
            self._publisher.publish_raw(topics.CONTROL.name, job_id.encode(), encode(event), [], on_delivery=told)
        except (ServerUnreachable, KafkaException) as error:
            log.info("a wish was refused at once: %s", error)
