"""Many tasks: none is lost, none is done twice, and none leaves anything behind."""

import gc
import os
import signal
from collections import Counter
from pathlib import Path
from threading import Barrier, Thread

import pytest

from runtime.tasks import Limits, ProcessDied, TaskManager, async_task
from tests.integration.runtime import errands

PATIENCE_S = 60.0


def test_fifty_tasks_run_at_once() -> None:
    # Each waits until all are there.
    all_here = Barrier(50, timeout=PATIENCE_S)
    with TaskManager(Limits(threads=50)) as tasks:
        places = [tasks.submit(all_here.wait) for _ in range(50)]
        assert sorted(task.result(PATIENCE_S) for task in places) == list(range(50))


def test_five_thousand_tasks_in_threads_are_each_done_once() -> None:
    done: Counter[int] = Counter()
    with TaskManager(Limits(threads=8, queued=100, keep=5_000)) as tasks:

        def note(number: int) -> int:
            done.update([number])
            return number

        submitted = [tasks.submit(note, number) for number in range(5_000)]
        assert [task.result(PATIENCE_S) for task in submitted] == list(range(5_000))
    assert done == Counter(range(5_000))


def test_five_thousand_tasks_of_many_threads_in_processes_come_back_to_those_who_sent_them() -> None:
    sums: list[int] = []
    with TaskManager(Limits(processes=2, queued=100)) as tasks:

        def send(first: int) -> None:
            submitted = [tasks.submit(errands.double, number) for number in range(first, first + 500)]
            sums.append(sum(task.result(PATIENCE_S) for task in submitted) - 2 * sum(range(first, first + 500)))

        senders = [Thread(target=send, args=(500 * number,)) for number in range(10)]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join(PATIENCE_S)
        assert tasks.counts().succeeded == 5_000
    assert sums == [0] * 10


def test_processes_that_die_all_the_time_cost_their_own_tasks_alone() -> None:
    with TaskManager(Limits(processes=2)) as tasks:
        dying = [tasks.submit(errands.die, signal.SIGKILL) for _ in range(4)]
        living = [tasks.submit(errands.double, number) for number in range(100)]
        dying += [tasks.submit(errands.leave, 1) for _ in range(2)]
        assert [task.result(PATIENCE_S) for task in living] == [2 * number for number in range(100)]
        for task in dying:
            with pytest.raises(ProcessDied):
                task.result(PATIENCE_S)
        assert (tasks.counts().succeeded, tasks.counts().failed) == (100, 6)


def test_a_hundred_thousand_tasks_leave_no_memory_and_no_files_behind() -> None:
    with TaskManager(Limits(threads=2, queued=100, keep=100)) as tasks:

        def run(count: int) -> float:
            for _ in range(count):
                tasks.submit(timely, 1_000)
            assert tasks.wait(timeout_s=PATIENCE_S)
            gc.collect()
            return resident_mb()

        before_mb, files = run(10_000), len(os.listdir("/proc/self/fd"))
        growth_mb = run(100_000) - before_mb
        assert tasks.counts().kept == 100
    assert growth_mb < 5.0
    assert len(os.listdir("/proc/self/fd")) <= files


def test_processes_that_are_replaced_leave_no_files_behind() -> None:
    with TaskManager(Limits(processes=1)) as tasks:
        tasks.submit(errands.double, 1).result(PATIENCE_S)
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(3):
            tasks.submit(errands.leave, 1).wait(PATIENCE_S)
        tasks.submit(errands.double, 1).result(PATIENCE_S)
        assert len(os.listdir("/proc/self/fd")) == before


@async_task(deadline_s=3_600.0)
def timely(size: int) -> bytes:
    """A result that would be seen if it was kept, and a deadline that is never reached."""
    return b"x" * size


def resident_mb() -> float:
    """What this process has in memory now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
