"""Wakes the producers after the wall clock was set back.

librdkafka waits until a time of day (librdkafka#2145). Its waits that have begun when the clock is set back by an hour
take an hour longer: its main thread looks for no leaders and reports no failures, and threads of lost brokers do not
connect again. So every process watches its clock, and has its producers do something that wakes all of their threads.
Consumers can't be woken so, for the binding lets no other call in while one polls: a poll returns with the next record.
"""

import logging
import select
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final
from weakref import WeakSet

from confluent_kafka import KafkaException, Producer

log = logging.getLogger(__name__)

#: How often the clocks are compared.
LOOK_S: Final = 1.0
#: Set back by less, the clock has caught up before anybody needs to be woken.
STEP_S: Final = 0.5
ANSWER_S: Final = 1.0


class ClockWatch:
    """Compares the wall clock with the monotonic one, and wakes the producers once that was set back."""

    def __init__(self, wall: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._wall = wall
        self._monotonic = monotonic
        #: How far the clocks were apart when they were last compared.
        self.apart_s = self._difference()
        self._lock = threading.Lock()
        self._producers: WeakSet[WatchedProducer] = WeakSet()
        self._asleep: WeakSet[WatchedProducer] = WeakSet()
        self._thread: threading.Thread | None = None

    def add(self, producer: "WatchedProducer") -> None:
        """Wake this producer too, for as long as it is in use."""
        with self._lock:
            self._producers.add(producer)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="kafka-clock", daemon=True)
                self._thread.start()

    def look(self) -> None:
        """Wake the producers if the clock was set back, and those again that could not be woken before."""
        before_s, self.apart_s = self.apart_s, self._difference()
        with self._lock:
            if self.apart_s < before_s - STEP_S:
                log.warning("The clock was set back by %.1f s; Kafka's producers are woken.", before_s - self.apart_s)
                self._asleep.update(self._producers)
            asleep = list(self._asleep)
        for producer in asleep:
            if producer.wake():
                self._asleep.discard(producer)

    def _difference(self) -> float:
        return self._wall() - self._monotonic()

    def _run(self) -> None:
        while True:
            # The kernel's own wait: those of some Pythons are until a time of day, too.
            select.select([], [], [], LOOK_S)
            self.look()


#: Of this process.
WATCH: Final = ClockWatch()


class WatchedProducer(Producer):
    """A producer that goes on after the clock was set back."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__(dict(config))
        WATCH.add(self)

    def wake(self) -> bool:
        """Wake all threads; whether that has reached them."""
        # Of all calls this is the one that wakes the threads of all brokers, the lost ones too. No mechanism uses it.
        self.set_sasl_credentials("-", "-")
        try:
            # The answer passes through the main thread, which sees then what it should have done meanwhile.
            self.list_topics(timeout=ANSWER_S)
        except KafkaException:
            return False
        return True
