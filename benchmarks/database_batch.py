"""Rows into Postgres: handed in one by one to the batch writer, beside a commit a row, and beside ``executemany``.

All write the same rows to the same table, which is emptied before each run, over one connection, with fsync.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import psycopg2
from sqlalchemy import make_url, text

from benchmarks.figure import Bar, Figure, compare
from runtime.database import Database
from runtime.database.batches import Copy
from runtime.database.columns import Columns
from runtime.database.group_commit import GroupCommit

NAME: Final = "database.batch"
#: A second for ours, three for `executemany`.
ROWS: Final = 60_000
#: Enough for a second or so: each is a sync to disk.
COMMITS: Final = 2_000
#: They are short, and the machine may have something else to do in one or two.
RUNS: Final = 5
COLUMNS: Final = Columns(id="bigint", source="text", series="text", at="timestamptz", value="double precision")
CREATE: Final = """
    CREATE TABLE IF NOT EXISTS benchmark_rows (
        id bigint PRIMARY KEY, source text NOT NULL, series text NOT NULL, at timestamptz NOT NULL,
        value double precision NOT NULL
    )
"""
INSERT: Final = "INSERT INTO benchmark_rows (id, source, series, at, value) VALUES (%s, %s, %s, %s, %s)"
Row = tuple[int, str, str, datetime, float]


def measure() -> Iterator[Figure]:
    """Two figures: rows a second beside a commit a row, and beside ``executemany`` in one transaction."""
    rows = list(made(ROWS))
    ours, singly, many = [], [], []
    url = os.environ["HEADRACE_DATABASE"]
    address = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    with closing(Database(url, "benchmark")) as database, closing(psycopg2.connect(address)) as peer:
        try:
            for _ in range(RUNS):
                ours.append(rate(database, rows, lambda given: grouped(database, given)))
                many.append(rate(database, rows, lambda given: in_one(peer, given)))
                singly.append(rate(database, rows[:COMMITS], lambda given: one_by_one(peer, given)))
        finally:
            with database.begin() as connection:
                connection.execute(text("DROP TABLE IF EXISTS benchmark_rows"))
    yield compare(f"{NAME}.commit", "rows/s", Bar("at least", 15), ours, singly, "psycopg2, a commit a row")
    yield compare(f"{NAME}.executemany", "rows/s", Bar("at least", 3), ours, many, "psycopg2 executemany, one commit")


def made(count: int) -> Iterator[Row]:
    """Rows of about 100 bytes, as samples of metrics have them."""
    start = datetime(2026, 11, 27, tzinfo=UTC)
    for number in range(count):
        series = f'headrace_worker_jobs_total{{kind="generate",model="model-{number % 50}"}}'
        yield number, f"worker-{number % 10:012x}", series, start + timedelta(seconds=number), number / 7


def rate(database: Database, rows: Sequence[Row], write: Callable[[Sequence[Row]], None]) -> float:
    """Rows a second into the empty table, which then has them all."""
    with database.begin() as connection:
        connection.execute(text(CREATE))
        connection.execute(text("TRUNCATE benchmark_rows"))
    started_s = time.perf_counter()
    write(rows)
    taken_s = time.perf_counter() - started_s
    with database.begin() as connection:
        stored = connection.execute(text("SELECT count(*) FROM benchmark_rows")).scalar_one()
    if stored != len(rows):
        raise RuntimeError(f"{stored} of {len(rows)} rows are there")
    return len(rows) / taken_s


def grouped(database: Database, rows: Sequence[Row]) -> None:
    """Hand in each row by itself, and wait for the answer of each."""
    with closing(GroupCommit(database, Copy("benchmark_rows", COLUMNS))) as commit:
        answers = [commit.submit(row) for row in rows]
        for answer in answers:
            answer.result()


def one_by_one(peer: Any, rows: Sequence[Row]) -> None:
    """A transaction a row."""
    with peer.cursor() as cursor:
        for row in rows:
            cursor.execute(INSERT, row)
            peer.commit()


def in_one(peer: Any, rows: Sequence[Row]) -> None:
    """All rows in one transaction, as DB-API 2.0 has it (PEP 249)."""
    with peer.cursor() as cursor:
        cursor.executemany(INSERT, rows)
    peer.commit()
