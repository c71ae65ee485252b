"""From a task's submission to its start, 99th percentile, beside bare ``concurrent.futures``: threads and processes.

Either one task at a time, or all submitted as fast as they are taken. The peer has the same number of workers.
"""

import multiprocessing
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from typing import Final, Protocol

from benchmarks.figure import Bar, Figure, compare
from runtime.tasks import Limits, TaskManager, async_task

NAME: Final = "tasks.overhead"
TASKS: Final = 10_000
WORKERS: Final = 2
#: One at a time, both take turns after so many tasks, so that whatever else the machine does meets both.
TURN: Final = 20
WARM_UP: Final = 500
RUNS: Final = 7
BAR: Final = Bar("at most", 1.5)


class Submitted(Protocol):
    """What both give out for a task."""

    def result(self) -> int:
        """Wait for it."""


Submit = Callable[[], Submitted]


def began_ns() -> int:
    """A tiny task: when it began, by the clock that all processes of the machine share."""
    return time.monotonic_ns()


@async_task(use_process=True)
def began_in_process_ns() -> int:
    """The same in a process."""
    return time.monotonic_ns()


def measure() -> Iterator[Figure]:
    """Four figures: threads and processes, one at a time and all at once."""
    with (
        # Room for all at once, as the peer has it.
        TaskManager(Limits(threads=WORKERS, processes=WORKERS, queued=TASKS)) as tasks,
        ThreadPoolExecutor(WORKERS) as threads,
        ProcessPoolExecutor(WORKERS, multiprocessing.get_context("spawn")) as processes,
    ):
        pairs: list[tuple[str, Submit, Executor]] = [
            ("ThreadPoolExecutor", partial(tasks.submit, began_ns), threads),
            ("ProcessPoolExecutor, spawned", partial(tasks.submit, began_in_process_ns), processes),
        ]
        for name, ours, executor in pairs:
            peer: Callable[[], Future[int]] = partial(executor.submit, began_ns)
            for submit in (ours, peer):
                all_at_once(submit, WARM_UP)
            turns = [one_at_a_time(ours, peer) for _ in range(RUNS)]
            yield _figure(name, "one at a time", turns)
            bursts = [(all_at_once(ours, TASKS), all_at_once(peer, TASKS)) for _ in range(RUNS)]
            yield _figure(name, "all at once", bursts)


def one_at_a_time(ours: Submit, peer: Submit) -> tuple[float, float]:
    """The 99th percentiles of ours and the peer's, in microseconds, each task submitted when the last has ended."""
    waits: tuple[list[int], list[int]] = ([], [])
    for _ in range(TASKS // TURN):
        for submit, mine in zip((ours, peer), waits, strict=True):
            for _ in range(TURN):
                asked_ns = time.monotonic_ns()
                mine.append(submit().result() - asked_ns)
    return p99_us(waits[0]), p99_us(waits[1])


def all_at_once(submit: Submit, tasks: int) -> float:
    """The 99th percentile in microseconds; most of it is the queue."""
    asked_ns, submitted = [], []
    for _ in range(tasks):
        asked_ns.append(time.monotonic_ns())
        submitted.append(submit())
    return p99_us([task.result() - asked for task, asked in zip(submitted, asked_ns, strict=True)])


def p99_us(waits_ns: list[int]) -> float:
    """The 99th percentile, nearest rank."""
    return sorted(waits_ns)[-(-len(waits_ns) * 99 // 100) - 1] / 1e3


def _figure(peer_name: str, how: str, runs: list[tuple[float, float]]) -> Figure:
    ours, peer = zip(*runs, strict=True)
    unit = f"µs from submission to start, p99 of {TASKS:,} tasks, {how}"
    return compare(NAME, unit, BAR, ours, peer, f"{peer_name}, {WORKERS} workers")
