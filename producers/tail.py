"""The results that a client waits for, by one reader of the whole results topic."""

import logging
import threading
from collections import OrderedDict
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import Future
from typing import Final

import msgspec
from confluent_kafka import Consumer, Message, TopicPartition

from producers.claims import Claims
from producers.cluster import Cluster
from producers.errors import ClientClosed
from producers.silence import SILENCE_S, Silence
from runtime.kafka_consumers import next_messages, placed_consumer
from schemas.codec import decode, encode
from schemas.errors import ServerUnreachable
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
    """Follows the results topic from where it ended when the client connected; it reads from the first question on.

    Whoever waits while Kafka is away gets ``ServerUnreachable``, and may ask again: nothing is missed.
    """

    def __init__(self, cluster: Cluster, tenant: str, claims: Claims, silence_s: float = SILENCE_S) -> None:
        self._cluster = cluster
        self._tenant = tenant
        self._claims = claims
        self._silence_s = silence_s
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

    def result(self, job_id: str) -> tuple[Future[ResultEvent], bool]:
        """A job's result, now or later; and whether it may lie further back, where it has to be looked for.

        Raises:
            ClientClosed: it is too late.
        """
        waiter: Future[ResultEvent] = Future()
        with self._lock:
            if job_id in self._held:
                self._settle([waiter], self._held[job_id][0])
                return waiter, False
            if self._closed.is_set():
                raise ClientClosed
            self._waiters.setdefault(job_id, []).append(waiter)
            waiter.add_done_callback(lambda done: self._forget(job_id, done))
            if self._thread is None:
                self._thread = threading.Thread(target=self._read, name="headrace-results", daemon=True)
                self._thread.start()
            return waiter, job_id not in self._pending

    def is_awaited(self, job_ids: Iterable[str]) -> bool:
        """Whether somebody waits for one of these."""
        with self._lock:
            return any(job_id in self._waiters for job_id in job_ids)

    def take(self, message: Message) -> None:
        """Give a record of the results topic to whoever waits for it; any other one is passed over."""
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

    def give(self, event: ResultEvent) -> None:
        """Give a result from elsewhere to whoever waits for it."""
        self._deliver(event.job_id, event, len(encode(event)))

    def fail(self, error: Exception, job_ids: Collection[str] | None = None) -> None:
        """Tell whoever waits for one of these, or for any, that this is why it has ended."""
        with self._lock:
            ended = self._waiters.keys() if job_ids is None else self._waiters.keys() & set(job_ids)
            waiters = [waiter for job_id in list(ended) for waiter in self._waiters.pop(job_id)]
        for waiter in waiters:
            if waiter.set_running_or_notify_cancel():
                waiter.set_exception(error)

    def close(self) -> None:
        """Stop reading; whoever waits gets ``ClientClosed``."""
        self._closed.set()
        with self._lock:
            thread = self._thread
        if thread:
            thread.join()
        self.fail(ClientClosed())

    def _forget(self, job_id: str, done: Future[ResultEvent]) -> None:
        if not done.cancelled():
            return
        with self._lock:
            others = [waiter for waiter in self._waiters.pop(job_id, []) if waiter is not done]
            if others:
                self._waiters[job_id] = others

    def _read(self) -> None:
        places = [TopicPartition(RESULTS.name, *place) for place in self._cluster.results_at_start.items()]
        consumer = placed_consumer(self._cluster.bootstrap, places)
        silence = Silence(self._cluster, self._silence_s)
        try:
            while not self._closed.is_set():
                try:
                    self._read_some(consumer, silence)
                except ServerUnreachable as error:
                    # The consumer goes on by itself, once it can.
                    self.fail(error)
        # Whatever went wrong belongs to whoever waits; the next question starts anew.
        except Exception as error:
            with self._lock:
                self._thread = None
            self.fail(error)
        finally:
            consumer.close()

    def _read_some(self, consumer: Consumer, silence: Silence) -> None:
        messages = next_messages(consumer, BATCH, POLL_S)
        for message in messages:
            if message.error() is None:
                self.take(message)
        # While nobody waits, nobody has to know that Kafka is away.
        if messages or self._waiters:
            silence.hear(messages)

    def _deliver(self, job_id: str, event: ResultEvent, size_bytes: int) -> None:
        with self._lock:
            # A copy of the event finds nothing to do.
            if job_id not in self._pending and job_id not in self._waiters:
                return
            self._pending.pop(job_id, None)
            self._held[job_id] = event, size_bytes
            self._held_bytes += size_bytes
            while self._held_bytes > HELD_BYTES:
                _, (_, freed_bytes) = self._held.popitem(last=False)
                self._held_bytes -= freed_bytes
            waiters = self._waiters.pop(job_id, [])
        self._settle(waiters, event)

    def _settle(self, waiters: Sequence[Future[ResultEvent]], event: ResultEvent) -> None:
        conflict = self._claims.conflict(event) if waiters else None
        for waiter in waiters:
            # One that was cancelled is not asked.
            if not waiter.set_running_or_notify_cancel():
                continue
            if conflict:
                waiter.set_exception(conflict)
            else:
                waiter.set_result(event)
