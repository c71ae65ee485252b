"""The points of a crash are known by statements that are really sent, and who comes by one dies there."""

import os
import re
import signal
import subprocess
import sys
from inspect import signature
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer

from tests.acceptance.faults.crashes import ADMITS, FORGETS, LEASES, SETTLES, Point
from tests.unit.faults.statements import statements


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        (SETTLES, {"SETTLE_JOBS"}),
        (LEASES, {"LEASE_JOBS", "INSERT_JOBS"}),
        (ADMITS, {"INSERT_JOBS"}),
        (FORGETS, {"DELETE_ROWS"}),
    ],
)
def test_a_point_is_known_by_its_statements_and_by_no_other(pattern: re.Pattern[str], names: set[str]) -> None:
    assert {name for name, statement in statements().items() if pattern.search(statement)} == names


ROOT = Path(__file__).parents[3]
#: Comes by every point of the database, and by the commit of offsets.
PROCESS = """
import asyncio, pathlib, sys
from sqlalchemy import create_engine, text
from tests.acceptance.faults.crashes import Crash, Point

class Consumer:
    async def commit(self, offsets=None):
        print("committed", offsets, flush=True)

crash = Crash(pathlib.Path(sys.argv[1]))
crash.watch_database()
crash.watch_offsets(Consumer)
engine = create_engine("sqlite://")

def run(*statements):
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))
            print(statement, flush=True)

run("CREATE TABLE jobs (state text)", "CREATE TABLE results (settled text)", "CREATE TABLE outbox (id text)")
crash.reached(Point.CLAIM)
run("INSERT INTO jobs (state) VALUES ('queued')")
run("UPDATE jobs SET state = 'scheduled'")
run("INSERT INTO results (settled) VALUES ('yes')")
run("DELETE FROM outbox")
asyncio.run(Consumer().commit("offsets"))
print("the end", flush=True)
"""


def pass_by(file: Path) -> tuple[int, str]:
    """How a process ends that comes by all points while the file is there, and the last that it does."""
    command = (sys.executable, "-c", PROCESS, str(file))
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": "."}, capture_output=True, check=False)
    return done.returncode, done.stdout.decode().splitlines()[-1]


@pytest.mark.parametrize(
    ("point", "last"),
    [
        (Point.CLAIM, "CREATE TABLE outbox (id text)"),
        (Point.ADMISSION, "INSERT INTO jobs (state) VALUES ('queued')"),
        (Point.LEASE, "UPDATE jobs SET state = 'scheduled'"),
        (Point.COMPUTE, "UPDATE jobs SET state = 'scheduled'"),
        (Point.COMMIT, "INSERT INTO results (settled) VALUES ('yes')"),
        (Point.PRODUCE, "INSERT INTO results (settled) VALUES ('yes')"),
        (Point.OFFSETS, "committed offsets"),
    ],
)
def test_who_comes_by_the_point_dies_there_and_nobody_after_it(tmp_path: Path, point: Point, last: str) -> None:
    file = tmp_path / "crash"
    file.write_text(point)
    assert pass_by(file) == (-signal.SIGKILL, last)
    assert not file.exists()


def test_who_is_not_to_die_goes_on(tmp_path: Path) -> None:
    assert pass_by(tmp_path / "none") == (0, "the end")


def test_the_driver_commits_offsets_as_it_is_watched() -> None:
    assert list(signature(AIOKafkaConsumer.commit).parameters) == ["self", "offsets"]
