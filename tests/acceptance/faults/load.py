"""A client that submits what clients submit, good and bad, and notes what it was told of each."""

import asyncio
import logging
import re
import secrets
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from random import Random
from typing import Final

from confluent_kafka import KafkaException

from runtime.kafka import Delivery, Publisher
from schemas import topics
from schemas.errors import ServerUnreachable
from schemas.limits import REQUEST_BYTES, REQUEST_TOPIC_BYTES
from schemas.topics import Kind
from tests.acceptance.faults.bodies import FIRST, GARBAGE, OTHER, POISON, evaluate, finetune, generate
from tests.acceptance.faults.wanting import Wanting

log = logging.getLogger(__name__)

#: A record carries its operation's number in this header, and a dead letter keeps it.
OPERATION: Final = "fault-operation"
#: After so long without an acknowledgement nobody knows whether a request was taken.
PATIENCE_MS: Final = 10_000
TICK_S: Final = 0.1
JOBS_PER_TICK: Final = 2
#: How long generations take. Some are in flight for longer than a lease.
DURATIONS_MS: Final = (10, 50, 50, 200, 200, 500, 500, 1_000, 2_000, 5_000)
#: Those that run for a second at least, by their bodies.
LONG_PROMPT: Final = re.compile(rb'"first:[0-9]{4}')
#: Repeats and conflicts are of one of so many operations before.
RECENT: Final = 200
TENANTS: Final = ("a", "b", "c")


class Flavour(StrEnum):
    """What is submitted."""

    NEW = "new"
    #: The same id and body again.
    REPEAT = "repeat"
    #: The same id with another body, after the first was acknowledged.
    CONFLICT = "conflict"
    #: No JSON, and so no id.
    UNREADABLE = "unreadable"
    #: A readable id in a request with a wrong field.
    INVALID = "invalid"
    TOMBSTONE = "tombstone"
    #: Larger than a request may be, and than the topic takes.
    GIANT = "giant"
    TOO_GIANT = "too giant"
    #: Its deadline has passed.
    LATE = "late"
    POISON = "poison"


class Outcome(StrEnum):
    """What the client was told."""

    OK = "ok"
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Operation:
    """One record that was submitted, by its number; ``job_id`` is empty where its reader can't tell it."""

    number: int
    tenant: str
    job_id: str
    kind: Kind
    flavour: Flavour
    key: bytes
    body: bytes | None
    #: By the machine's monotonic clock.
    sent_s: float = 0.0


class Load:
    """Submits jobs of some tenants for as long as it runs; ``outcomes`` has what is known of each operation."""

    def __init__(self, bootstrap: str, seed: int, prefix: str) -> None:
        self._publisher = Publisher(bootstrap, "faults", delivery_timeout_ms=PATIENCE_MS)
        self._random = Random(f"headrace load {seed}")
        self.tenants = tuple(f"{prefix}-{name}" for name in TENANTS)
        self.operations: list[Operation] = []
        #: Written by the publisher's thread.
        self.outcomes: dict[int, Outcome] = {}
        self.wanting = Wanting(self._publisher, seed)
        self._bursts: list[Flavour] = []
        self._jobs: Counter[str] = Counter()

    async def run(self, for_s: float) -> None:
        """Submit for so long; a fault's repair that takes longer meets no new jobs."""
        end_s = time.monotonic() + for_s
        while time.monotonic() < end_s:
            for _ in range(JOBS_PER_TICK):
                self._submit(self._usual())
            for flavour in self._bursts:
                self._submit(flavour)
            self.wanting.send_due()
            await asyncio.sleep(TICK_S)

    @contextmanager
    def burst(self, *flavours: Flavour) -> Iterator[None]:
        """Submit one of each flavour with every tick of the block, too."""
        self._bursts.extend(flavours)
        try:
            yield
        finally:
            for flavour in flavours:
                self._bursts.remove(flavour)

    def once(self, flavour: Flavour) -> None:
        """Submit one operation now."""
        self._submit(flavour)

    def reordered(self, count: int) -> None:
        """Submit jobs in the wrong order, and all of them again in the right one, by other partitions."""
        planned = [self._operation(Flavour.NEW) for _ in range(count)]
        for operation in reversed(planned):
            self._send(operation)
        for operation in planned:
            self._send(replace(operation, flavour=Flavour.REPEAT, key=secrets.token_bytes(4)))

    def garbage(self) -> None:
        """Write bytes that are no event to topics between Headrace's own processes; anybody can."""
        for topic in (topics.WORKERS, topics.WORK, topics.CONTROL, topics.METRICS):
            for partition in range(min(topic.partitions, 3)):
                for value in GARBAGE:
                    self._publisher.publish_raw(topic.name, b"garbage", value, [], partition)

    def unsettled(self) -> bool:
        """Whether the outcome of some operation is still to come."""
        return len(self.outcomes) < len(self.operations)

    def close(self) -> None:
        """Wait for the last outcomes."""
        self._publisher.close(PATIENCE_MS / 1_000 + 1)

    def _usual(self) -> Flavour:
        flavours = {
            Flavour.NEW: 80,
            Flavour.REPEAT: 8,
            Flavour.CONFLICT: 4,
            Flavour.UNREADABLE: 2,
            Flavour.INVALID: 2,
            Flavour.LATE: 2,
        }
        return self._random.choices(list(flavours), list(flavours.values()))[0]

    def _submit(self, flavour: Flavour) -> None:
        operation = self._operation(flavour)
        self._send(operation)
        if operation.flavour is Flavour.NEW:
            is_long = operation.body is not None and LONG_PROMPT.search(operation.body) is not None
            self.wanting.submitted((operation.tenant, operation.job_id), is_long=is_long)

    def _send(self, unnumbered: Operation) -> None:
        operation = replace(unnumbered, number=len(self.operations), sent_s=time.monotonic())
        self.operations.append(operation)
        headers: list[tuple[str, bytes | None]] = [(OPERATION, str(operation.number).encode())]
        topic = topics.REQUESTS[operation.kind].name

        def told(delivery: Delivery) -> None:
            self.outcomes[operation.number] = _outcome(delivery)

        try:
            self._publisher.publish_raw(topic, operation.key, operation.body, headers, on_delivery=told)
        except (ServerUnreachable, KafkaException) as error:
            log.info("operation %d was refused at once: %s", operation.number, error)
            self.outcomes[operation.number] = Outcome.FAILED

    def _operation(self, flavour: Flavour) -> Operation:
        earlier = self._acknowledged() if flavour in (Flavour.REPEAT, Flavour.CONFLICT) else None
        if earlier and flavour is Flavour.REPEAT:
            # By any partition: it may well be read before the first.
            return replace(earlier, flavour=flavour, key=secrets.token_bytes(4))
        if earlier:
            # Behind the first in the same partition, so that it is the second.
            other = generate(earlier.tenant, earlier.job_id, OTHER, 50)
            return replace(earlier, flavour=flavour, body=other)
        tenant = self._random.choice(self.tenants)
        self._jobs[tenant] += 1
        # Every tenant numbers its jobs alike: an id alone tells no job.
        job_id = f"job-{self._jobs[tenant]}"
        flavour = Flavour.NEW if flavour in (Flavour.REPEAT, Flavour.CONFLICT) else flavour
        kind = self._random.choices(list(Kind), (20, 1, 3))[0] if flavour is Flavour.NEW else Kind.GENERATE
        body = self._body(flavour, tenant, job_id, kind)
        known = "" if flavour in (Flavour.UNREADABLE, Flavour.TOMBSTONE) else job_id
        return Operation(-1, tenant, known, kind, flavour, secrets.token_bytes(4), body)

    def _body(self, flavour: Flavour, tenant: str, job_id: str, kind: Kind) -> bytes | None:
        milliseconds = self._random.choice(DURATIONS_MS)
        match flavour:
            case Flavour.NEW | Flavour.REPEAT | Flavour.CONFLICT:
                match kind:
                    case Kind.GENERATE:
                        return generate(tenant, job_id, FIRST, milliseconds)
                    case Kind.FINETUNE:
                        return finetune(tenant, job_id, steps=self._random.randint(5, 20))
                    case Kind.EVALUATE:
                        return evaluate(tenant, job_id)
            case Flavour.POISON:
                return generate(tenant, job_id, POISON, 0)
            case Flavour.LATE:
                return generate(tenant, job_id, FIRST, 0, deadline=datetime.now(UTC) - timedelta(hours=1))
            case Flavour.UNREADABLE:
                return self._random.choice((b"\xff\xfe", b"{", b"[" * 10_000, b"null", b" "))
            case Flavour.INVALID:
                return generate(tenant, job_id, FIRST, 0).replace(b'"model"', b'"modell"')
            case Flavour.TOMBSTONE:
                return None
            case Flavour.GIANT:
                return generate(tenant, job_id, "x" * (REQUEST_BYTES + 1), 0)
            case Flavour.TOO_GIANT:
                return generate(tenant, job_id, secrets.token_hex(REQUEST_TOPIC_BYTES), 0)

    def _acknowledged(self) -> Operation | None:
        """Some job whose request is surely in the log."""
        recent = self.operations[-RECENT:]
        return next(
            (
                operation
                for operation in self._random.sample(recent, len(recent))
                if operation.flavour is Flavour.NEW and operation.kind is Kind.GENERATE
                and self.outcomes.get(operation.number) is Outcome.OK
            ),
            None,
        )  # fmt: skip


def _outcome(delivery: Delivery) -> Outcome:
    if delivery.error is None:
        return Outcome.OK
    # The broker's word, and final; after every other error the record may be there or not.
    return Outcome.FAILED if "too large" in delivery.error.lower() else Outcome.UNKNOWN
