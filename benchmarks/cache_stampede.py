"""A hundred callers, in four processes of 25 threads, ask at once for a value that takes 0.3 s to make."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Final
from uuid import uuid4

from benchmarks.figure import Bar, Figure, compare

NAME: Final = "cache.stampede"
PROCESSES: Final = 4
THREADS: Final = 25
LOAD_S: Final = 0.3
TURNS: Final = 5


def measure() -> Iterator[Figure]:
    """How often it is made, and for how long the last caller has waited."""
    made, waited = [], []
    for _ in range(TURNS):
        runs, seconds = stampede()
        made.append(float(runs))
        waited.append(seconds)
    yield compare(NAME, "loads", Bar("at most", 1.0), made, [1.0] * TURNS, "one load")
    yield compare(NAME, "s until all have it", Bar("at most", 2.0), waited, [LOAD_S] * TURNS, "one load")


def stampede() -> tuple[int, float]:
    """Loads in all processes, and the seconds of the slowest."""
    command = [sys.executable, "-m", "benchmarks.programs.cache_asker", uuid4().hex, str(THREADS)]
    with ExitStack() as stack:
        askers = [
            stack.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
            for _ in range(PROCESSES)
        ]
        for asker in askers:
            assert asker.stdout is not None
            asker.stdout.readline()
        for asker in askers:
            assert asker.stdin is not None
            asker.stdin.write("\n")
            asker.stdin.flush()
        answers = [asker.communicate()[0].split() for asker in askers]
    return sum(int(runs) for runs, _ in answers), max(float(seconds) for _, seconds in answers)
