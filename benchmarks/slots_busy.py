"""How busy a worker's slots are: 64 slots, jobs of 100 ms, 1,000 keys (tenants), a queue that never runs dry.

Ideal is a worker whose slots never wait: 640 jobs a second. Ours is the share of it that was reached between the
moments when a fifth and four fifths of the jobs had begun.
"""

import os
from collections.abc import Iterator
from contextlib import closing
from typing import Final

import msgspec

from benchmarks.figure import RUNS, Bar, Figure, compare
from benchmarks.headrace import platform
from benchmarks.load import begun_at, load
from runtime.kafka import Publisher
from schemas.codec import encode
from schemas.requests import GenerateRequest
from schemas.topics import REQUESTS, Kind

NAME: Final = "slots.busy"
SLOTS: Final = 64
JOB_S: Final = 0.1
KEYS: Final = 1_000
JOBS: Final = 6_400


def measure() -> Iterator[Figure]:
    """One figure, whose peer is the ideal."""
    ours = [share() for _ in range(RUNS)]
    yield compare(NAME, "share of slot time", Bar("at least", 0.95), ours, [1.0] * RUNS, "ideal: no slot ever waits")


def share() -> float:
    """The part of the slots' time in which they had a job."""
    with platform(seconds=JOB_S, settings={"HEADRACE_GENERATE_SLOTS": str(SLOTS)}), load() as jobs:
        found = jobs.finish(JOBS, submit)
    begun = sorted(map(begun_at, found.values()))[JOBS // 5 : -JOBS // 5]
    # A job that takes longer than it should does not make its slot busier.
    return len(begun) * JOB_S / SLOTS / (begun[-1] - begun[0])


def submit(requests: Iterator[GenerateRequest]) -> None:
    """Send the jobs of many tenants, whose clients would be as many."""
    with closing(Publisher(os.environ["HEADRACE_KAFKA"], "benchmark")) as publisher:
        for number, request in enumerate(requests):
            sent = msgspec.structs.replace(request, tenant=f"key-{number % KEYS}")
            publisher.publish_raw(REQUESTS[Kind.GENERATE].name, (request.id or "").encode(), encode(sent), ())
