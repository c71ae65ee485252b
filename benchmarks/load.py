"""Jobs sent to a running platform, and their results as a consumer of committed records sees them."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Final
from uuid import uuid4

from confluent_kafka import OFFSET_END, Consumer, KafkaError, TopicPartition

from benchmarks.records import MODELS
from producers import Headrace
from runtime.kafka_consumers import placed_consumer
from schemas import topics
from schemas.codec import decode
from schemas.requests import GenerateRequest
from schemas.results import GenerateResult, ResultEvent, Terminal

PATIENCE_S: Final = 180.0


class Load:
    """A client, and a reader of every result from now on. For one thread."""

    def __init__(self, client: Headrace, results: Consumer) -> None:
        self.client = client
        self._results = results

    def rate(self, jobs: int) -> float:
        """Send jobs as fast as the client can; jobs a second, from the first send to the last result read."""
        begun_s = time.monotonic()
        self.finish(jobs, self.client.submit_many)
        return jobs / (time.monotonic() - begun_s)

    def finish(self, jobs: int, submit: Callable[[Iterator[GenerateRequest]], object]) -> dict[str, ResultEvent]:
        """Send jobs in a thread, and read until each has its result; by id.

        Raises:
            TimeoutError: some have none within ``PATIENCE_S``.
        """
        run = uuid4().hex[:8]
        requests = (
            GenerateRequest(id=f"{run}-{number}", model=MODELS[number % len(MODELS)], prompt="No-op.", max_tokens=16)
            for number in range(jobs)
        )
        sending = threading.Thread(target=submit, args=(requests,))
        sending.start()
        try:
            return self._read(run, jobs)
        finally:
            sending.join()

    def _read(self, run: str, jobs: int) -> dict[str, ResultEvent]:
        found: dict[str, ResultEvent] = {}
        deadline_s = time.monotonic() + PATIENCE_S
        while len(found) < jobs:
            if time.monotonic() > deadline_s:
                raise TimeoutError(f"{jobs - len(found)} of {jobs} jobs have no result after {PATIENCE_S:g} s")
            for record in self._results.consume(1_000, timeout=0.1):
                if record.error() is None:
                    event: ResultEvent = decode(ResultEvent, record.value() or b"")
                    if event.job_id.startswith(run):
                        assert event.status is Terminal.SUCCEEDED
                        found[event.job_id] = event
        return found


@contextmanager
def load() -> Iterator[Load]:
    """Connect to the platform of the environment; results from before are not seen."""
    kafka = os.environ["HEADRACE_KAFKA"]
    with Headrace.connect() as client, closing(results_from_now(kafka)) as results:
        yield Load(client, results)


def results_from_now(kafka: str) -> Consumer:
    """A consumer of the results topic that has found the end of each partition."""
    places = [TopicPartition(topics.RESULTS.name, number, OFFSET_END) for number in range(topics.RESULTS.partitions)]
    consumer = placed_consumer(kafka, places, report_ends=True)
    ended = 0
    while ended < len(places):
        record = consumer.poll(10.0)
        error = record.error() if record else None
        ended += error is not None and error.code() == KafkaError._PARTITION_EOF
    return consumer


def begun_at(event: ResultEvent) -> float:
    """When the handler was called, in seconds since 1970: what the benchmarks' worker answers."""
    assert isinstance(event.result, GenerateResult)
    return float(event.result.choices[0].text)
