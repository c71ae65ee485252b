"""Bare dispatch: processor time to read, decode, route and produce a record."""

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Final

from benchmarks.figure import RUNS, Bar, Figure, compare
from benchmarks.records import fill, topics

NAME: Final = "dispatch.bare"
RECORDS: Final = 60_000
#: Stock Faust needs some seconds for so many.
STOCK_RECORDS: Final = 10_000


def measure() -> Iterator[Figure]:
    """Beside a confluent-kafka loop by the time a record takes, and beside stock Faust by the records of a core."""
    kafka = os.environ["HEADRACE_KAFKA"]
    ours, loop, stock = [], [], []
    with topics(kafka, "source", "stock-source", "target") as (source, stock_source, target):
        fill(kafka, source, RECORDS)
        fill(kafka, stock_source, STOCK_RECORDS)
        for _ in range(RUNS):
            ours.append(record_us("chunked", source, target, RECORDS))
            loop.append(record_us("confluent", source, target, RECORDS))
            stock.append(record_us("faust", stock_source, target, STOCK_RECORDS))
    yield compare(NAME, "µs of processor time a record", Bar("at most", 2.0), ours, loop, "confluent-kafka loop")
    yield compare(
        NAME,
        "records a second and core",
        Bar("at least", 15.0),
        [1e6 / us for us in ours],
        [1e6 / us for us in stock],
        "stock Faust, async for and topic.send",
    )


def record_us(reader: str, source: str, target: str, records: int) -> float:
    """Processor time of a record, in microseconds."""
    command = [sys.executable, "-m", "benchmarks.programs.bare", reader, source, target, str(records)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return float(done.stdout) / records * 1e6
