"""Dispatch latency at 200 jobs a second: from the client's produce to the call of the worker's handler.

On the way lie two hops through Kafka (client to dispatcher, dispatcher to worker) and two transactions of Postgres
with fsync (admission, lease). The peer is Kafka's own ``EndToEndLatency`` tool, a hop, times two; our configured
linger is taken off ours before they are compared, as the bar has it.
"""

import os
import re
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from statistics import quantiles
from typing import Final

from benchmarks.figure import RUNS, Bar, Figure, compare
from benchmarks.headrace import platform
from benchmarks.load import Load, begun_at, load
from benchmarks.records import topics
from deploy.local.paths import KAFKA_LIBRARIES
from producers.sender import LINGER_MS as CLIENT_LINGER_MS
from schemas.requests import GenerateRequest
from streams.work import LINGER_MS

NAME: Final = "latency.dispatch"
RATE: Final = 200
JOBS: Final = 2_000
WARM_UP: Final = 400
HOPS: Final = 2
PROBES: Final = 3_000
PROBE_BYTES: Final = 500


def measure() -> Iterator[Figure]:
    """Two figures: the median, and the 99th percentile."""
    ours, peer = [], []
    for _ in range(RUNS):
        ours.append(headrace_ms())
        peer.append(kafka_ms(os.environ["HEADRACE_KAFKA"]))
    linger_ms = CLIENT_LINGER_MS + LINGER_MS
    for index, name in enumerate(("p50", "p99")):
        yield compare(
            NAME,
            f"ms, {name}, {linger_ms:g} ms of linger taken off",
            Bar("at most", 2.0),
            [max(0.0, run[index] - linger_ms) for run in ours],
            [HOPS * run[index] for run in peer],
            f"EndToEndLatency x {HOPS} hops",
        )


def headrace_ms() -> tuple[float, float]:
    """Median and 99th percentile, in milliseconds."""
    with platform() as _, load() as jobs:
        latencies(jobs, WARM_UP)
        return percentiles(latencies(jobs, JOBS))


def latencies(jobs: Load, number: int) -> list[float]:
    """Send jobs at an even pace; the milliseconds of each until its handler was called."""
    sent_at: dict[str, float] = {}

    def submit(requests: Iterator[GenerateRequest]) -> None:
        begun_s = time.monotonic()
        for turn, request in enumerate(requests):
            time.sleep(max(0.0, begun_s + turn / RATE - time.monotonic()))
            sent_at[request.id or ""] = datetime.now(UTC).timestamp()
            jobs.client.send(request)

    found = jobs.finish(number, submit)
    return [(begun_at(event) - sent_at[job_id]) * 1e3 for job_id, event in found.items()]


def percentiles(values_ms: list[float]) -> tuple[float, float]:
    """The median and the 99th percentile."""
    cuts = quantiles(values_ms, n=100)
    return cuts[49], cuts[98]


def kafka_ms(kafka: str) -> tuple[float, float]:
    """The same of one hop, by Kafka's tool: one record at a time, acknowledged by all replicas."""
    with topics(kafka, "latency") as (topic,):
        command = ["java", "-cp", f"{KAFKA_LIBRARIES}/*", "org.apache.kafka.tools.EndToEndLatency",
                   kafka, topic, str(PROBES), "all", str(PROBE_BYTES)]  # fmt: skip
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    found = re.search(r"50th = ([\d.]+), 99th = ([\d.]+)", done.stdout)
    if not found:
        raise RuntimeError(f"EndToEndLatency printed {done.stdout[-500:]!r}")
    # It prints whole milliseconds, rounded down.
    return float(found[1]) + 0.5, float(found[2]) + 0.5
