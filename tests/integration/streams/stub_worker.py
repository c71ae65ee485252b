"""A worker that runs nothing: it keeps the protocol and answers each job at once, or never."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from confluent_kafka import Consumer

from runtime.database import Database, outcomes, workers
from runtime.database.outcomes import Settlement
from runtime.kafka import Publisher
from runtime.kafka_consumers import assigned_consumer
from schemas import topics
from schemas.codec import decode, new_traceparent
from schemas.events import STOP_TYPE, Heartbeat, Slots, StopEvent, WorkEvent
from schemas.requests import GenerateRequest
from schemas.results import Choice, GenerateResult, ResultEvent, Terminal
from schemas.topics import Kind
from tests.integration.streams.observing import end_of

SLOTS = 32
LEASE_S = 30.0


class StubWorker:
    """Holds a partition, sends heartbeats, and keeps the events that it was given."""

    def __init__(self, kafka: str, database: Database, publisher: Publisher, name: str, *models: str) -> None:
        self.name = name
        self.events: list[WorkEvent] = []
        #: What clients want of its jobs; it does not obey.
        self.stops: list[StopEvent] = []
        #: The most jobs that it had and had not answered.
        self.most_at_once = 0
        self.answers = threading.Event()
        #: Whether it loses each job as soon as it has it, as a worker does that is killed by it and comes back.
        self.forgets = threading.Event()
        self._database, self._publisher, self._models = database, publisher, models
        with database.begin() as connection:
            self.partition = workers.claim_partition(connection, name, socket.gethostname(), LEASE_S)
        self._position = end_of(kafka, topics.WORK.name, self.partition)
        self._consumer: Consumer = assigned_consumer(
            kafka, topics.WORK.name, [self.partition], {self.partition: self._position}
        )
        self._held: list[WorkEvent] = []
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name)

    @contextmanager
    def running(self) -> Iterator["StubWorker"]:
        """Work until the end of the block, then go without a word, as a worker does that is killed."""
        self._thread.start()
        try:
            yield self
        finally:
            self._stopped.set()
            self._thread.join()
            self._consumer.close()
            with self._database.begin() as connection:
                workers.release_partition(connection, self.partition, self.name)

    def _run(self) -> None:
        while not self._stopped.is_set():
            for message in self._consumer.consume(SLOTS, 0.1):
                self._position = (message.offset() or 0) + 1
                if ("ce_type", STOP_TYPE.encode()) in (message.headers() or []):
                    self.stops.append(decode(StopEvent, message.value() or b""))
                    continue
                event: WorkEvent = decode(WorkEvent, message.value() or b"")
                if event.lease.worker_id == self.name:
                    self._held.append(event)
                    self.events.append(event)
            self.most_at_once = max(self.most_at_once, len(self._held))
            if self.answers.is_set():
                self._answer()
            if self.forgets.is_set():
                self._held.clear()
            self._heartbeat()

    def _answer(self) -> None:
        settlements = [Settlement(event.lease, _result(event)) for event in self._held]
        with self._database.begin() as connection:
            outcomes.settle(connection, settlements)
        self._held.clear()

    def leave(self) -> None:
        """Say that it has gone, once it has."""
        self._heartbeat(leaving=True)
        self._publisher.flush(30)

    def _heartbeat(self, *, leaving: bool = False) -> None:
        beat = Heartbeat(
            worker_id=self.name,
            host="test",
            partition=self.partition,
            position=self._position,
            free=Slots(generate=SLOTS - len(self._held)),
            models=self._models,
            leaving=leaving,
        )
        self._publisher.publish(
            topics.WORKERS, beat, key=self.name, event_id=f"{self.name}/{self._position}", traceparent=new_traceparent()
        )


def _result(event: WorkEvent) -> ResultEvent:
    request = event.job.request
    assert isinstance(request, GenerateRequest)
    return ResultEvent(
        job_id=event.job.id,
        tenant=event.job.tenant,
        kind=Kind.GENERATE,
        status=Terminal.SUCCEEDED,
        attempt=event.job.attempt,
        finished_at=datetime.now(UTC),
        result=GenerateResult(choices=(Choice(0, 0, request.prompt or "", 1, "stop"),)),
    )
