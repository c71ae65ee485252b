"""Tasks in real processes, and what is left when these are killed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from runtime.tasks import (
    Limits,
    ProcessDied,
    Progress,
    Task,
    TaskCancelled,
    TaskExpired,
    TaskFailed,
    TaskManager,
    async_task,
)
from runtime.tasks.timers import Timers
from tests.integration.runtime import errands
from tests.unit.runtime.gates import Clock

PATIENCE_S = 30.0
GRACE_S = 0.2


@pytest.fixture(scope="module")
def tasks() -> Iterator[TaskManager]:
    """Two processes, which the tests share: what one has killed must not trouble the next."""
    with TaskManager(Limits(threads=2, processes=2, grace_s=GRACE_S)) as manager:
        yield manager


@pytest.fixture
def pipe(tmp_path: Path) -> str:
    """A named pipe, at which both sides wait for the other."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    return str(path)


@contextmanager
def patient() -> Iterator[tuple[TaskManager, Callable[[], None]]]:
    """One process, and what lets a grace pass: on a busy machine no time is enough to be told and to obey."""
    clock = Clock()
    timers = Timers(clock, threaded=False)

    def pass_grace() -> None:
        clock.now_s += 1.0
        timers.run_due()

    with TaskManager(Limits(processes=1, grace_s=1.0), timers=timers) as tasks:
        yield tasks, pass_grace


def process_of(task: Task[object]) -> int:
    """The process that runs the task, by the task's own word."""
    return int(next(task.updates(PATIENCE_S)).done)


def wait_until(true: Callable[[], bool]) -> None:
    """Other processes' ends are no events for those who are not their parents."""
    until_s = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < until_s
        time.sleep(0.01)


def is_gone(pid: int) -> bool:
    """Whether all its threads have ended; the first may be dead while another one still holds the sockets."""
    try:
        process = psutil.Process(pid)
        return process.status() == psutil.STATUS_ZOMBIE and len(os.listdir(f"/proc/{pid}/task")) == 1
    except (psutil.NoSuchProcess, FileNotFoundError):
        return True


def test_a_task_runs_in_another_process_that_was_not_forked(tasks: TaskManager) -> None:
    child = tasks.submit(errands.pid).result(PATIENCE_S)
    assert child != os.getpid()
    # A fork would have its parent's program.
    assert "spawn_main" in " ".join(psutil.Process(child).cmdline())


def test_progress_comes_while_the_task_runs(tasks: TaskManager, pipe: str) -> None:
    heard: list[Progress] = []
    task = tasks.submit(errands.count.options(on_progress=heard.append), 3, pipe)
    for progress in task.updates(PATIENCE_S):
        if progress.done == 3:
            assert not task.ended
            Path(pipe).write_text("go on", encoding="utf-8")
    assert task.result(PATIENCE_S) == 3
    assert heard == [Progress(number, 3, f"number {number}") for number in (1, 2, 3)]


def test_an_exception_comes_as_text_and_names_even_if_it_cannot_be_unpickled(tasks: TaskManager) -> None:
    with pytest.raises(TaskFailed, match="1 is not 2") as caught:
        tasks.submit(errands.raise_particular).result(PATIENCE_S)
    assert caught.value.failure.is_a(errands.Particular)
    assert "in raise_particular" in caught.value.failure.traceback
    assert "in raise_particular" in caught.value.__notes__[0]


def test_a_file_name_that_is_no_utf8_comes_escaped(tasks: TaskManager) -> None:
    task = tasks.submit(errands.miss, os.fsdecode(b"caf\xe9"))
    with pytest.raises(TaskFailed, match=r"FileNotFoundError: caf\\udce9"):
        task.result(PATIENCE_S)
    assert task.progress == Progress(1, None, r"caf\udce9")


def test_what_cannot_be_pickled_is_the_error_of_its_task_alone(tasks: TaskManager) -> None:
    with pytest.raises(TaskFailed, match="pickle"):
        tasks.submit(errands.returns_a_lambda).result(PATIENCE_S)
    with pytest.raises(TaskFailed, match="pickle"):
        tasks.submit(errands.double, lambda: 1).result(PATIENCE_S)  # type: ignore[arg-type]  # the point
    with pytest.raises(TaskFailed, match="local"):
        tasks.submit(async_task(use_process=True)(lambda: 1)).result(PATIENCE_S)
    assert tasks.submit(errands.double, 2).result(PATIENCE_S) == 4


def test_a_value_that_exits_where_it_is_read_is_the_error_of_its_task_alone(tasks: TaskManager) -> None:
    for _ in range(3):
        with pytest.raises(TaskFailed, match="SystemExit"):
            tasks.submit(errands.returns_an_exit).result(PATIENCE_S)
    assert tasks.submit(errands.double, 2).result(PATIENCE_S) == 4


def test_what_a_task_left_behind_tells_is_not_heard_as_the_next_one(pipe: str) -> None:
    with TaskManager(Limits(processes=1)) as tasks:
        process = tasks.submit(errands.leave_a_thread).result(PATIENCE_S)
        heard: list[float] = []
        task = tasks.submit(errands.hold.options(on_progress=lambda progress: heard.append(progress.done)), pipe)
        Path(pipe).write_text("go on", encoding="utf-8")
        assert task.result(PATIENCE_S) == "go on"
        assert heard == [process]


def test_a_fork_of_a_task_has_no_part_in_what_it_tells(tasks: TaskManager) -> None:
    task = tasks.submit(errands.tell_from_a_fork)
    assert task.result(PATIENCE_S) == 0
    assert task.progress == Progress()


def test_a_death_whose_exit_code_somebody_else_took_is_the_error_of_its_task_alone() -> None:
    with TaskManager(Limits(processes=1)) as tasks:
        task = tasks.submit(errands.obey)
        process = process_of(task)
        before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        try:
            os.kill(process, signal.SIGKILL)
            with pytest.raises(ProcessDied, match="was lost"):
                task.result(PATIENCE_S)
        finally:
            signal.signal(signal.SIGCHLD, before)
        assert tasks.submit(errands.double, 2).result(PATIENCE_S) == 4


def test_a_task_that_exits_has_failed_and_its_process_goes_on(tasks: TaskManager) -> None:
    with pytest.raises(TaskFailed, match="SystemExit"):
        tasks.submit(errands.exits).result(PATIENCE_S)


def test_large_values_cross(tasks: TaskManager) -> None:
    data = os.urandom(1_000) * 20_000
    assert tasks.submit(errands.size_of, data).result(PATIENCE_S) == data + b"!"


def test_a_task_may_start_programs(tasks: TaskManager) -> None:
    assert tasks.submit(errands.start_a_program).result(PATIENCE_S) == "hello"


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (lambda tasks: tasks.submit(errands.leave, 3), "ended with status 3"),
        (lambda tasks: tasks.submit(errands.leave, 0), "ended with status 0"),
        (lambda tasks: tasks.submit(errands.die, signal.SIGKILL), "was ended by SIGKILL"),
        (lambda tasks: tasks.submit(errands.die, signal.SIGSEGV), "was ended by SIGSEGV"),
    ],
)
def test_a_process_that_ends_under_its_task_is_the_error_of_that_task_alone(
    tasks: TaskManager, pipe: str, end: Callable[[TaskManager], Task[None]], reason: str
) -> None:
    beside = tasks.submit(errands.hold, pipe)
    other = process_of(beside)
    dying = end(tasks)
    queued = [tasks.submit(errands.double, number) for number in range(10)]
    with pytest.raises(ProcessDied, match=reason) as caught:
        dying.result(PATIENCE_S)
    assert caught.value.pid != other
    # All that waited are done by the process that took its place: the other one is busy.
    assert [task.result(PATIENCE_S) for task in queued] == [2 * number for number in range(10)]
    Path(pipe).write_text("unharmed", encoding="utf-8")
    assert beside.result(PATIENCE_S) == "unharmed"


def test_a_process_that_is_killed_from_outside_costs_its_task(tasks: TaskManager) -> None:
    task = tasks.submit(errands.obey)
    os.kill(process_of(task), signal.SIGKILL)
    with pytest.raises(ProcessDied, match="SIGKILL"):
        task.result(PATIENCE_S)


def test_an_idle_process_that_is_killed_costs_no_task(tasks: TaskManager) -> None:
    for _ in range(4):
        idle = tasks.submit(errands.pid).result(PATIENCE_S)
        os.kill(idle, signal.SIGKILL)
        wait_until(lambda idle=idle: is_gone(idle))  # type: ignore[misc]  # a default
        assert tasks.submit(errands.pid).result(PATIENCE_S) != idle


def test_a_death_is_seen_although_a_fork_of_the_process_lives_on(tasks: TaskManager) -> None:
    task = tasks.submit(errands.die_with_a_child_that_lives_on)
    fork = process_of(task)
    try:
        with pytest.raises(ProcessDied, match="SIGKILL"):
            task.result(PATIENCE_S)
    finally:
        os.kill(fork, signal.SIGKILL)


def test_a_task_that_is_told_stops_by_itself() -> None:
    with patient() as (tasks, _):
        task = tasks.submit(errands.obey)
        process = process_of(task)
        task.cancel()
        with pytest.raises(TaskCancelled):
            task.result(PATIENCE_S)
        assert not is_gone(process)


def test_what_was_meant_for_one_task_does_not_end_the_next(pipe: str) -> None:
    with patient() as (tasks, pass_grace):
        task = tasks.submit(errands.obey)
        process = process_of(task)
        task.cancel()
        assert isinstance(task.wait(PATIENCE_S) and task.error(), TaskCancelled)
        after = tasks.submit(errands.hold, pipe)
        assert process_of(after) == process
        # The graces of the first one are over, and the process is still there.
        pass_grace()
        pass_grace()
        Path(pipe).write_text("unharmed", encoding="utf-8")
        assert after.result(PATIENCE_S) == "unharmed"


def test_a_process_that_was_signalled_gets_no_other_task() -> None:
    with patient() as (tasks, pass_grace):
        task = tasks.submit(errands.answer_sigterm)
        process = process_of(task)
        task.cancel()
        pass_grace()
        # It came to its end all the same.
        assert task.result(PATIENCE_S) == process
        assert tasks.submit(errands.pid).result(PATIENCE_S) != process


def test_a_task_that_does_not_listen_gets_sigterm_and_leaves_in_order(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    with patient() as (tasks, pass_grace):
        task = tasks.submit(errands.tidy, str(trace))
        process = process_of(task)
        task.cancel()
        pass_grace()
        with pytest.raises(TaskCancelled):
            task.result(PATIENCE_S)
        assert trace.read_text(encoding="utf-8") == "left in order"
        assert is_gone(process)


def test_a_task_that_hears_nothing_is_killed(tasks: TaskManager) -> None:
    task = tasks.submit(errands.stubborn)
    process = process_of(task)
    task.cancel()
    with pytest.raises(TaskCancelled):
        task.result(PATIENCE_S)
    assert is_gone(process)
    assert tasks.submit(errands.double, 2).result(PATIENCE_S) == 4


def test_a_task_over_its_deadline_is_ended(tasks: TaskManager) -> None:
    task = tasks.submit(errands.stubborn.options(deadline_s=0.5))
    with pytest.raises(TaskExpired):
        task.result(PATIENCE_S)
    assert tasks.submit(errands.double, 2).result(PATIENCE_S) == 4


def test_ctrl_c_is_for_the_parent_alone(tasks: TaskManager, pipe: str) -> None:
    task = tasks.submit(errands.hold, pipe)
    os.kill(process_of(task), signal.SIGINT)
    Path(pipe).write_text("unharmed", encoding="utf-8")
    assert task.result(PATIENCE_S) == "unharmed"


def test_ctrl_c_does_not_end_a_process_that_is_starting() -> None:
    with TaskManager(Limits(processes=1)) as tasks:
        before = {child.pid for child in psutil.Process().children()}
        task = tasks.submit(errands.double, 2)
        # All the while: nobody can tell what it has done already.
        while not task.wait(0.001):
            for child in psutil.Process().children():
                if child.pid not in before:
                    with suppress(ProcessLookupError):
                        os.kill(child.pid, signal.SIGINT)
        assert task.result() == 4


def test_no_process_is_left_when_the_manager_is_closed() -> None:
    with TaskManager(Limits(processes=2, grace_s=GRACE_S)) as tasks:
        running = [tasks.submit(errands.stubborn) for _ in range(2)]
        processes = [process_of(task) for task in running]
        tasks.close(drain_s=0.0)
        assert all(map(is_gone, processes))
        assert {task.state for task in running} == {"cancelled"}


PARENT = """
import sys, threading
from contextlib import suppress
from runtime.tasks import Limits, TaskManager, TasksClosed
from tests.integration.runtime import errands

def main():
    tasks = TaskManager(Limits(processes=2, grace_s=0.2))
    running = [tasks.submit(getattr(errands, name)) for name in sys.argv[2:]]
    idle = tasks.submit(errands.pid).result() if len(running) < 2 else 0
    print(*(int(next(task.updates()).done) for task in running), idle, flush=True)
    if sys.argv[1] == "waits":
        sys.stdin.read()
    if sys.argv[1] == "cancels":
        for task in running:
            task.cancel()
    if sys.argv[1] == "closes":
        threading.Thread(target=say_when_it_closes, args=(tasks,), daemon=True).start()
        tasks.close(600.0)

def say_when_it_closes(tasks):
    with suppress(TasksClosed):
        while True:
            tasks.submit(len, "four").result()
    print("closing", flush=True)

main()
"""


def parent(what: str, *running: str) -> tuple["subprocess.Popen[str]", list[int]]:
    """A program with a manager, and the processes that it says it has."""
    program = subprocess.Popen(
        [sys.executable, "-c", PARENT, what, *running], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert program.stdout is not None
    return program, [int(pid) for pid in program.stdout.readline().split() if int(pid)]


@pytest.mark.parametrize("errand", ["obey", "stubborn", "deaf"])
def test_a_parent_that_is_killed_takes_its_processes_along(errand: str) -> None:
    program, processes = parent("waits", errand)
    with program:
        assert len(processes) == 2
        program.kill()
    wait_until(lambda: all(map(is_gone, processes)))


def test_a_manager_that_nobody_closes_does_not_keep_its_program_from_ending() -> None:
    program, processes = parent("cancels", "obey")
    with program:
        assert program.wait(PATIENCE_S) == 0
    wait_until(lambda: all(map(is_gone, processes)))


def test_a_close_that_is_interrupted_does_not_keep_its_program_from_ending() -> None:
    program, processes = parent("closes", "obey")
    with program:
        assert program.stdout is not None
        assert program.stdout.readline() == "closing\n"
        program.send_signal(signal.SIGINT)
        assert program.wait(PATIENCE_S) == -signal.SIGINT
    wait_until(lambda: all(map(is_gone, processes)))


def test_a_script_without_a_guard_is_told_what_is_wrong(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from runtime.tasks import TaskManager\n"
        "from tests.integration.runtime import errands\n"
        "with TaskManager() as tasks:\n"
        "    tasks.submit(errands.double, 2).result()\n",
        encoding="utf-8",
    )
    done = subprocess.run(
        [sys.executable, str(script)],
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 1
    assert "its process did not start: it ended with 1" in done.stderr
    assert 'if __name__ == "__main__":' in done.stderr
