"""The results of a client's own jobs, by one reader of the whole results topic."""

import logging
import threading
from collections import OrderedDict
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Final

import msgspec
from confluent_kafka import Message, TopicPartition

from producers.errors import ClientClosed
from runtime.kafka import next_messages, placed_consumer
from schemas.codec import decode
from schemas.results import ResultEvent
from schemas.topics import RESULTS

logger = logging.getLogger(__name__)

POLL_S: Final = 0.1
BATCH: Final = 500
#: Jobs whose result is awaited by nobody yet. What is forgotten beyond that is found by reading the topic again.
PENDING_JOBS: Final = 100_000
#: Results that came before they were asked for.
HELD_BYTES: Final = 64 * 1024 * 1024


class ResultTail:
    """Follows the results topic from the offsets ``at``; it starts to read with the first question."""

    def __init__(self, bootstrap: str, tenant: str, at: Mapping[int, int]) -> None:
        self._bootstrap = bootstrap
        self._tenant = tenant
        self._places = [TopicPartition(RESULTS.name, partition, offset) for partition, offset in at.items()]
        self._lock = threading.Lock()
        self._pending: OrderedDict[str, None] = OrderedDict()
        self._held: OrderedDict[str, tuple[ResultEvent, int]] = OrderedDict()
        self._held_bytes = 0
        self._waiters: dict[str, list[Future[ResultEvent]]] = {}
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def expect(self, job_id: str) -> None:
        """Keep the result of a job with a new id when it comes. To be called before the job is sent."""
        with self._lock:
            self._pending[job_id] = None
            if len(self._pending) > PENDING_JOBS:
                self._pending.popitem(last=False)

    def result(self, job_id: str) -> Future[ResultEvent] | None:
        """The result of an expected job, now or later; None for a job that is not known here."""
        waiter: Future[ResultEvent] = Future()
        with self._lock:
            if job_id in self._held:
                waiter.set_result(self._held[job_id][0])
                return waiter
            if job_id not in self._pending or self._closed.is_set():
                return None
            self._waiters.setdefault(job_id, []).append(waiter)
            waiter.add_done_callback(lambda done: self._forget(job_id, done))
            if self._thread is None:
                self._thread = threading.Thread(target=self._read, name="headrace-results", daemon=True)
                self._thread.start()
        return waiter

    def close(self) -> None:
        """Stop reading; whoever waits gets ``ClientClosed``."""
        self._closed.set()
        if self._thread:
            self._thread.join()
        with self._lock:
            waiters = [waiter for waiters in self._waiters.values() for waiter in waiters]
            self._waiters.clear()
        for waiter in waiters:
            if waiter.set_running_or_notify_cancel():
                waiter.set_exception(ClientClosed())

    def _forget(self, job_id: str, done: Future[ResultEvent]) -> None:
        if not done.cancelled():
            return
        with self._lock:
            others = [waiter for waiter in self._waiters.pop(job_id, []) if waiter is not done]
            if others:
                self._waiters[job_id] = others

    def _read(self) -> None:
        consumer = placed_consumer(self._bootstrap, self._places)
        try:
            while not self._closed.is_set():
                # Errors among them are outages, over which the consumer goes on by itself.
                for message in next_messages(consumer, BATCH, POLL_S):
                    if message.error() is None:
                        self._take(message)
        finally:
            consumer.close()

    def _take(self, message: Message) -> None:
        key, value = message.key(), message.value()
        job_id = key.decode(errors="replace") if isinstance(key, bytes) else ""
        with self._lock:
            known = job_id in self._pending or job_id in self._waiters
        if not known or not isinstance(value, bytes):
            return
        try:
            event: ResultEvent = decode(ResultEvent, value)
        except msgspec.DecodeError as error:
            logger.warning("skipped offset %s of %s, which is no result: %s", message.offset(), RESULTS.name, error)
            return
        if event.tenant == self._tenant:
            self._deliver(job_id, event, len(value))

    def _deliver(self, job_id: str, event: ResultEvent, size_bytes: int) -> None:
        with self._lock:
            # No longer pending: a copy of the event finds nothing to do.
            self._pending.pop(job_id, None)
            self._held[job_id] = event, size_bytes
            self._held_bytes += size_bytes
            while self._held_bytes > HELD_BYTES:
                _, (_, freed_bytes) = self._held.popitem(last=False)
                self._held_bytes -= freed_bytes
            waiters = self._waiters.pop(job_id, [])
        for waiter in waiters:
            # One that was cancelled is not asked.
            if waiter.set_running_or_notify_cancel():
                waiter.set_result(event)
