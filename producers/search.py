"""Results that came before somebody asked for them: from Postgres if it may be asked, else from the results topic."""

import logging
import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final

from confluent_kafka import KafkaError

from producers.archive import Archive
from producers.cluster import Cluster
from producers.errors import ClientClosed, ResultGone
from producers.ids import time_of
from producers.silence import Silence
from producers.tail import BATCH, POLL_S, ResultTail
from runtime.kafka_consumers import next_messages, placed_consumer
from schemas.errors import ServerUnreachable
from schemas.topics import RESULTS

logger = logging.getLogger(__name__)

#: A state may be seen before the result of the same transaction: the brokers of two topics hear of its end one by one.
COMMIT_S: Final = 2.0


class Searches:
    """Finds past results for whoever waits at the tail, all that are asked for meanwhile at once, in one thread.

    The tail is asked first: it has what comes from then on, so that a search ends where the topic ends.
    """

    def __init__(self, cluster: Cluster, archive: Archive | None, tail: ResultTail) -> None:
        self._cluster = cluster
        self._archive = archive
        self._tail = tail
        self._closed = threading.Event()
        self._changed = threading.Condition()
        #: The jobs that nobody has looked for yet, and whether each is known to have ended.
        self._asked: dict[str, bool] = {}
        self._thread: threading.Thread | None = None

    def begin(self, job_id: str, *, ended: bool) -> None:
        """Look for a job's result. If it is known to have ``ended`` and there is none, whoever waits is told so.

        Raises:
            ClientClosed: it is too late.
        """
        with self._changed:
            if self._closed.is_set():
                raise ClientClosed
            self._asked[job_id] = ended or self._asked.get(job_id, False)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="headrace-search", daemon=True)
                self._thread.start()
            self._changed.notify()

    def close(self) -> None:
        """End all searches."""
        with self._changed:
            self._closed.set()
            self._changed.notify()
        if self._thread:
            self._thread.join()

    def _run(self) -> None:
        while asked := self._next():
            past = self._ask_archive(asked) if self._archive else list(asked)
            by_partition: dict[int, list[str]] = defaultdict(list)
            for job_id in past:
                by_partition[self._cluster.partition(RESULTS, job_id)].append(job_id)
            looked = [job_id for place in by_partition.items() if self._search(*place) for job_id in place[1]]
            self._give_up([job_id for job_id in looked if asked[job_id]])

    def _next(self) -> Mapping[str, bool]:
        """What was asked for since, once there is something; nothing in the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._asked or self._closed.is_set())
            asked, self._asked = self._asked, {}
        return {} if self._closed.is_set() else asked

    def _ask_archive(self, asked: Mapping[str, bool]) -> Sequence[str]:
        """Give what Postgres has; what has to be looked for in the topic."""
        assert self._archive is not None
        job_ids = list(asked)
        past: list[str] = []
        for number, job_id in enumerate(job_ids):
            try:
                stored = self._archive.result(job_id)
            except ServerUnreachable as error:
                logger.warning("%s Reading the results topic instead.", error)
                return past + job_ids[number:]
            # Whatever is wrong with this one belongs to whoever waits for it.
            except Exception as error:
                self._tail.fail(error, [job_id])
                continue
            if stored:
                self._tail.give(stored)
            elif asked[job_id]:
                past.append(job_id)
            # A result is stored before it is published, so this one is still to come, and the tail will have it.
        return past

    def _search(self, partition: int, job_ids: Sequence[str]) -> bool:
        """Look through a partition for these jobs; whether that went well."""
        try:
            self._read(partition, job_ids)
        # Whatever went wrong belongs to whoever waits.
        except Exception as error:
            self._tail.fail(error, job_ids)
            return False
        return True

    def _read(self, partition: int, job_ids: Sequence[str]) -> None:
        """Give the tail what the partition has of these jobs, from the oldest one's time on, up to its end of now."""
        end = self._cluster.ends(RESULTS, [partition])[partition]
        times = [time_of(job_id) for job_id in job_ids]
        known = [time for time in times if time]
        place = self._cluster.place(RESULTS, job_ids[0], min(known) if len(known) == len(times) else None)
        position = place.offset
        if position >= end:
            return
        consumer = placed_consumer(self._cluster.bootstrap, [place], report_ends=True)
        silence = Silence(self._cluster)
        try:
            while position < end and not self._closed.is_set() and self._tail.is_awaited(job_ids):
                messages = next_messages(consumer, BATCH, POLL_S)
                for message in messages:
                    error = message.error()
                    if error is None:
                        self._tail.take(message)
                        position = (message.offset() or 0) + 1
                    elif error.code() == KafkaError._PARTITION_EOF:
                        position = message.offset() or 0
                silence.hear(messages)
        finally:
            consumer.close()

    def _give_up(self, job_ids: Sequence[str]) -> None:
        if self._tail.is_awaited(job_ids) and not self._closed.wait(COMMIT_S):
            for job_id in job_ids:
                self._tail.fail(ResultGone(job_id), [job_id])
