"""Full admission: requests that wait in Kafka, to work events on a worker's partition.

Ours is a real dispatcher: it validates, compares with what Postgres knows, queues, takes leases and routes, with
fsync. The worker is a stand-in with room for every job. The peer is a loop that writes the same events in Kafka
transactions of 500, with no database.
"""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Final

from confluent_kafka import Consumer
from sqlalchemy import text

from benchmarks.figure import RUNS, Bar, Figure, compare
from benchmarks.headrace import platform, prepare
from benchmarks.records import MODELS, PARTITIONS, fill, topics
from runtime.database import Database
from runtime.kafka import Publisher
from runtime.kafka_consumers import assigned_consumer
from schemas.codec import new_traceparent
from schemas.events import Heartbeat, Slots
from schemas.topics import REQUESTS, WORK, WORKERS, Kind

NAME: Final = "dispatch.admission"
#: Some seconds for each: with 8,000 one consumer once read a whole run in one piece.
RECORDS: Final = 40_000
HEARTBEAT_S: Final = 1.0
PATIENCE_S: Final = 120.0
#: Nobody renews the leases of the stand-in's jobs.
LEASE_S: Final = "600"


def measure() -> Iterator[Figure]:
    """One figure: records a second."""
    kafka = os.environ["HEADRACE_KAFKA"]
    prepare()
    ours, peer = [], []
    for _ in range(RUNS):
        ours.append(headrace(kafka))
        with topics(kafka, "source", "target") as (source, target):
            fill(kafka, source, RECORDS)
            peer.append(transactional(kafka, source, target))
    yield compare(
        NAME, "records/s", Bar("at least", 0.5), ours, peer, "confluent-kafka, transactions of 500 records, no database"
    )


def headrace(kafka: str) -> float:
    """Jobs a second that the dispatcher gives to a worker."""
    fill(kafka, REQUESTS[Kind.GENERATE].name, RECORDS)
    with closing(assigned_consumer(kafka, WORK.name, [0], "end")) as work:
        work.poll(1.0)
        with standing_in(kafka), platform(workers=0, settings={"HEADRACE_LEASE_S": LEASE_S}):
            found = rate(work)
    with closing(Database(os.environ["HEADRACE_DATABASE"])) as database, database.begin() as connection:
        # Not deleted: the reconciler would admit them again.
        connection.execute(text("UPDATE jobs SET state = 'cancelled', finished_at = now() WHERE state = 'scheduled'"))
    return found


def transactional(kafka: str, source: str, target: str) -> float:
    """Records a second of the peer."""
    command = [sys.executable, "-m", "benchmarks.programs.transactional", source, target, str(RECORDS)]
    with closing(assigned_consumer(kafka, target, range(PARTITIONS), "beginning")) as written:
        process = subprocess.Popen(command)
        try:
            return rate(written)
        finally:
            process.wait()


def rate(written: Consumer) -> float:
    """Records a second, from the first that can be read to the last: without the start of the process."""
    left, begun_s, first = RECORDS, 0.0, 0
    deadline_s = time.monotonic() + PATIENCE_S
    while left > 0:
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"{left} of {RECORDS} records are missing after {PATIENCE_S:g} s")
        count = sum(record.error() is None for record in written.consume(1_000, timeout=0.1))
        if count and not first:
            begun_s, first = time.monotonic(), count
        left -= count
    return (RECORDS - first) / (time.monotonic() - begun_s)


@contextmanager
def standing_in(kafka: str) -> Iterator[None]:
    """The heartbeats of a worker that has room for every job."""
    stop = threading.Event()

    def beat() -> None:
        with closing(Publisher(kafka, "benchmark")) as publisher:
            while not stop.is_set():
                room = Slots(generate=10 * RECORDS)
                beat = Heartbeat(
                    worker_id="stand-in", host="here", partition=0, position=0, free=room, slots=room, models=MODELS
                )
                publisher.publish(
                    WORKERS, beat, key="stand-in", event_id="", traceparent=new_traceparent(), partition=0
                )
                stop.wait(HEARTBEAT_S)

    beating = threading.Thread(target=beat)
    beating.start()
    try:
        yield
    finally:
        stop.set()
        beating.join()
