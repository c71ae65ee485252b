"""Tasks in threads: results, errors, progress, ends before the end, and what is kept."""

import logging
import os
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future, as_completed
from fractions import Fraction
from functools import partial
from typing import Any

import msgspec
import pytest

from runtime.tasks import (
    Limits,
    Progress,
    QueueFull,
    Task,
    TaskCancelled,
    TaskContext,
    TaskExpired,
    TaskFailed,
    TaskManager,
    TaskNotFound,
    TasksClosed,
    TaskStatus,
    TaskTimeout,
    async_task,
)
from runtime.tasks.timers import Timers
from schemas.errors import ModelUnavailable
from tests.unit.runtime.gates import PATIENCE_S, Clock, Gate, gated, opened

FEW = Limits(threads=2, queued=2, keep=3, keep_s=60.0, grace_s=0.05)


@pytest.fixture
def tasks() -> Iterator[TaskManager]:
    with TaskManager(FEW) as manager:
        yield manager


def started(tasks: TaskManager) -> tuple[Gate, Task[str]]:
    """A task that runs."""
    gate = Gate()
    task = tasks.submit(gated, gate)
    assert gate.started.wait(PATIENCE_S)
    return gate, task


def test_the_result_is_what_the_function_returned(tasks: TaskManager) -> None:
    task = tasks.submit(divmod, 7, 2)
    assert task.result(PATIENCE_S) == (3, 1)
    assert task.status().state == "succeeded"
    assert task.status().name == "divmod"


def test_a_task_has_the_name_of_what_it_calls_and_not_of_its_arguments(tasks: TaskManager) -> None:
    class Callable:
        def __call__(self) -> int:
            return 4

    assert tasks.submit(partial(partial(len), "secret")).name == "len"
    assert tasks.submit(Callable()).name.endswith("Callable")


def test_an_error_says_what_was_raised_where_and_whether_a_repeat_helps(tasks: TaskManager) -> None:
    def unlucky() -> None:
        raise ModelUnavailable("the store is away")

    with pytest.raises(TaskFailed, match="the store is away") as caught:
        tasks.submit(unlucky).result(PATIENCE_S)
    failure = caught.value.failure
    assert failure.is_a(ModelUnavailable)
    assert not failure.is_a(ValueError)
    assert (failure.code, failure.retryable) == ("model_unavailable", True)
    assert "in unlucky" in failure.traceback
    assert "in unlucky" in caught.value.__notes__[0]


def test_an_error_that_cannot_be_printed_ends_its_task_alone(tasks: TaskManager) -> None:
    class Unprintable(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    def unlucky() -> None:
        raise Unprintable

    with pytest.raises(TaskFailed, match="can't be printed"):
        tasks.submit(unlucky).result(PATIENCE_S)


def test_a_task_that_exits_has_failed_and_its_thread_goes_on(tasks: TaskManager) -> None:
    for _ in range(2 * FEW.threads):
        with pytest.raises(TaskFailed, match="SystemExit"):
            tasks.submit(exit, 3).result(PATIENCE_S)
    assert tasks.submit(len, "four").result(PATIENCE_S) == 4


def test_a_result_that_does_not_come_in_time_can_be_asked_for_again(tasks: TaskManager) -> None:
    gate, task = started(tasks)
    with opened(gate):
        with pytest.raises(TaskTimeout, match=r"no result after 0\.01 s"):
            task.result(0.01)
        assert task.status().state == "running"
    assert task.result(PATIENCE_S) == "done"


def test_progress_is_heard_at_once_by_callback_and_by_iteration(tasks: TaskManager) -> None:
    heard: list[Progress] = []
    gate = Gate()
    with opened(gate):
        task = tasks.submit(gated.options(on_progress=heard.append), gate)
        updates = task.updates(PATIENCE_S)
        gate.commands.put("report")
        # The task goes on: this would wait for ever if progress came with the end.
        assert next(updates) == Progress(1, 2, "half")
        assert heard == [Progress(1, 2, "half")]
    assert list(updates) == []
    assert task.status().progress == Progress(1, 2, "half")


def test_progress_and_errors_can_be_written_to_others(tasks: TaskManager) -> None:
    @async_task
    def miss(ctx: TaskContext, path: str) -> None:
        ctx.progress(Fraction(1, 2), 1, path)  # type: ignore[arg-type]  # numpy's numbers are no floats either
        raise FileNotFoundError(path)

    task = tasks.submit(miss, os.fsdecode(b"caf\xe9"))
    assert task.wait(PATIENCE_S)
    shown = msgspec.json.decode(msgspec.json.encode(task.status()), type=TaskStatus)
    assert shown.progress == Progress(0.5, 1, r"caf\udce9")
    assert shown.failure is not None
    assert shown.failure.message == r"caf\udce9"
    assert shown.failure.traceback.rstrip().endswith(r"caf\udce9")


def test_one_who_watches_too_late_sees_the_last_progress(tasks: TaskManager) -> None:
    gate, task = started(tasks)
    gate.commands.put("report")
    gate.open()
    assert task.wait(PATIENCE_S)
    assert list(task.updates()) == [Progress(1, 2, "half")]


def test_watching_a_silent_task_ends_in_time(tasks: TaskManager) -> None:
    gate, task = started(tasks)
    with opened(gate), pytest.raises(TaskTimeout):
        next(task.updates(0.01))


def test_a_callback_that_fails_costs_nobody_else_anything(tasks: TaskManager, caplog: pytest.LogCaptureFixture) -> None:
    def broken(_progress: Progress) -> None:
        raise KeyError("mine")

    gate = Gate()
    task = tasks.submit(gated.options(on_progress=broken), gate)
    task.on_end(lambda: broken(Progress()))
    gate.commands.put("report")
    gate.open()
    assert task.result(PATIENCE_S) == "done"
    assert tasks.submit(len, "four").result(PATIENCE_S) == 4
    assert "a callback of task" in caplog.text


def test_a_queued_task_that_is_cancelled_never_starts(tasks: TaskManager) -> None:
    gates = [started(tasks)[0] for _ in range(FEW.threads)]
    waiting = Gate()
    task = tasks.submit(gated, waiting)
    assert task.cancel()
    with pytest.raises(TaskCancelled, match="was cancelled"):
        task.result(0)
    for gate in gates:
        gate.open()
    assert tasks.wait(timeout_s=PATIENCE_S)
    assert not waiting.started.is_set()


def test_a_running_task_sees_that_it_was_cancelled(tasks: TaskManager) -> None:
    gate, task = started(tasks)
    assert task.cancel()
    gate.commands.put("check")
    with pytest.raises(TaskCancelled):
        task.result(PATIENCE_S)
    assert not task.cancel()


def test_a_sleeping_task_wakes_when_it_is_cancelled() -> None:
    asleep = threading.Event()

    @async_task
    def sleeper(ctx: TaskContext) -> bool:
        asleep.set()
        return ctx.wait(PATIENCE_S) and ctx.cancelled

    # A grace that is not over before a busy machine has woken it.
    with TaskManager(Limits(threads=1, grace_s=PATIENCE_S)) as tasks:
        task = tasks.submit(sleeper)
        assert asleep.wait(PATIENCE_S)
        tasks.cancel(task.id)
        assert task.result(PATIENCE_S)


def test_a_task_whose_thread_does_not_stop_ends_without_it_after_the_grace(tasks: TaskManager) -> None:
    gate, task = started(tasks)
    with opened(gate):
        task.cancel()
        with pytest.raises(TaskCancelled):
            task.result(PATIENCE_S)
        assert not gate.left.is_set()
    assert gate.left.wait(PATIENCE_S)
    # What it brings now is too late.
    assert tasks.submit(len, "four").result(PATIENCE_S) == 4
    assert task.status().state == "cancelled"


def test_a_queued_task_does_not_start_after_its_deadline(tasks: TaskManager) -> None:
    gates = [started(tasks)[0] for _ in range(FEW.threads)]
    with opened(*gates):
        late = Gate()
        task = tasks.submit(gated.options(deadline_s=0.01), late)
        with pytest.raises(TaskExpired, match="deadline"):
            task.result(PATIENCE_S)
    assert tasks.wait(timeout_s=PATIENCE_S)
    assert not late.started.is_set()


def test_what_a_task_brings_after_its_deadline_is_not_its_result(tasks: TaskManager) -> None:
    @async_task(deadline_s=0.01)
    def late(ctx: TaskContext) -> str:
        ctx.wait(PATIENCE_S)
        return "late"

    with pytest.raises(TaskExpired):
        tasks.submit(late).result(PATIENCE_S)


def test_a_stop_that_a_task_saw_in_another_one_is_its_failure(tasks: TaskManager) -> None:
    gate, task = started(tasks)
    waiting = tasks.submit(task.result)
    task.cancel()
    gate.commands.put("check")
    with pytest.raises(TaskFailed, match="TaskCancelled"):
        waiting.result(PATIENCE_S)


def test_a_full_queue_refuses_or_keeps_waiting_as_the_caller_chooses(tasks: TaskManager) -> None:
    gates = [started(tasks)[0] for _ in range(FEW.threads)] + [Gate() for _ in range(FEW.queued)]
    with opened(*gates):
        for gate in gates[FEW.threads :]:
            tasks.submit(gated, gate)
        assert tasks.queued()["threads"] == FEW.queued
        with pytest.raises(QueueFull, match="2 tasks wait in queue 'threads', the most that may"):
            tasks.submit(gated.options(when_full="raise"), Gate())
        with pytest.raises(QueueFull, match=r"did not take one more within 0\.01 s"):
            tasks.submit(gated.options(wait_s=0.01), Gate())
        patient: list[Task[str]] = []
        last = Gate()
        gates.append(last)
        submitting = threading.Thread(target=lambda: patient.append(tasks.submit(gated, last)))
        submitting.start()
        gates[0].open()
        submitting.join(PATIENCE_S)
        for gate in gates:
            gate.open()
        assert patient[0].result(PATIENCE_S) == "done"
    # Nothing is left of those that were refused.
    assert tasks.wait(timeout_s=PATIENCE_S)
    assert tasks.counts().succeeded == 5


def test_a_cancelled_task_makes_room_in_a_full_queue(tasks: TaskManager) -> None:
    gates = [started(tasks)[0] for _ in range(FEW.threads)]
    with opened(*gates):
        queued = [tasks.submit(len, "queued") for _ in range(FEW.queued)]
        queued[0].cancel()
        task = tasks.submit(async_task(len).options(when_full="raise"), "four")
    assert task.result(PATIENCE_S) == 4


def test_ended_tasks_are_found_until_others_take_their_place() -> None:
    with TaskManager(Limits(threads=1, keep=3)) as tasks:
        ended = [tasks.submit(str, number) for number in range(5)]
        assert tasks.wait(timeout_s=PATIENCE_S)
        assert [tasks.get(task.id).result() for task in ended[2:]] == ["2", "3", "4"]
        with pytest.raises(TaskNotFound, match="the last 3 of them"):
            tasks.get(ended[1].id)
        assert [status.id for status in tasks.statuses()] == [task.id for task in ended[2:]]
        assert tasks.counts().succeeded == 5


def test_ended_tasks_are_found_for_a_time() -> None:
    clock = Clock()
    timers = Timers(clock, threaded=False)
    with TaskManager(FEW, timers=timers) as tasks:
        task = tasks.submit(len, "four")
        task.wait(PATIENCE_S)
        clock.now_s += FEW.keep_s - 1
        timers.run_due()
        assert tasks.get(task.id) is task
        clock.now_s += 2
        with pytest.raises(TaskNotFound, match="kept for 60 s"):
            tasks.get(task.id)
        # Two that ended at different times: both go at their own, whoever asks or not.
        tasks.submit(len, "four").wait(PATIENCE_S)
        clock.now_s += FEW.keep_s / 2
        tasks.submit(len, "four").wait(PATIENCE_S)
        for kept in (1, 0):
            clock.now_s += FEW.keep_s / 2 + 1
            timers.run_due()
            assert tasks.counts().kept == kept


def test_tasks_are_waited_for_together_and_as_they_end(tasks: TaskManager) -> None:
    gate, task = started(tasks)
    quick = tasks.submit(len, "four")
    assert not tasks.wait([task, quick], timeout_s=0.01)
    futures: list[Future[Any]] = [task.future(), quick.future()]
    ends = as_completed(futures, PATIENCE_S)
    assert next(ends).result() == 4
    gate.open()
    assert next(ends).result() == "done"
    assert tasks.wait([task, quick], timeout_s=PATIENCE_S)


def test_all_who_wait_for_the_last_task_are_woken(tasks: TaskManager) -> None:
    woken: list[bool] = []

    def wait() -> None:
        woken.append(tasks.wait(timeout_s=PATIENCE_S))

    interval_s = sys.getswitchinterval()
    # Those who wake leave while the others are still being woken.
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(20):
            gate, _ = started(tasks)
            waiting = [threading.Thread(target=wait) for _ in range(10)]
            for thread in waiting:
                thread.start()
            gate.open()
            for thread in waiting:
                thread.join(2 * PATIENCE_S)
    finally:
        sys.setswitchinterval(interval_s)
    assert woken == [True] * 200


def test_when_all_have_ended_each_has() -> None:
    telling, told = threading.Event(), threading.Event()

    class Slow:
        def note(self, status: TaskStatus) -> None:
            if status.ended:
                telling.set()
                assert told.wait(PATIENCE_S)

        def close(self) -> None: ...

    with TaskManager(FEW, Slow()) as tasks:
        task = tasks.submit(len, "four")
        assert telling.wait(PATIENCE_S)
        assert tasks.wait(timeout_s=0.01) is task.ended
        told.set()
        assert tasks.wait(timeout_s=PATIENCE_S)
        assert task.result(0) == 4


def test_close_lets_what_was_taken_be_done() -> None:
    tasks = TaskManager(FEW)
    gates = [Gate() for _ in range(4)]
    submitted = [tasks.submit(gated, gate) for gate in gates]
    for gate in gates:
        gate.open()
    tasks.close()
    assert [task.result(0) for task in submitted] == ["done"] * 4
    with pytest.raises(TasksClosed):
        tasks.submit(len, "four")
    with pytest.raises(TasksClosed):
        tasks.background("audit")
    tasks.close()


def test_close_stops_what_is_not_done_in_time() -> None:
    tasks = TaskManager(FEW)
    gates = [started(tasks)[0] for _ in range(FEW.threads)]
    with opened(*gates):
        waiting = Gate()
        queued = tasks.submit(gated, waiting)
        tasks.close(drain_s=0.0)
        with pytest.raises(TaskCancelled):
            queued.result(0)
        assert tasks.counts().open == 0
    assert not waiting.started.is_set()


def test_close_frees_those_who_wait_for_a_place() -> None:
    tasks = TaskManager(Limits(threads=1, queued=1, grace_s=0.05))
    gate, _ = started(tasks)
    with opened(gate):
        tasks.submit(len, "queued")
        refused: list[TasksClosed] = []

        def submit() -> None:
            try:
                tasks.submit(len, "waits")
            except TasksClosed as error:
                refused.append(error)

        submitting = threading.Thread(target=submit)
        submitting.start()
        # Until it stands in line; its task is open from a moment before.
        while tasks.counts().open < 3:
            threading.Event().wait(0.001)
        closing = threading.Thread(target=tasks.close, args=(0.0,))
        closing.start()
        submitting.join(PATIENCE_S)
        closing.join(PATIENCE_S)
        assert len(refused) == 1


def test_a_close_that_takes_too_long_is_hurried_by_another() -> None:
    tasks = TaskManager(FEW)
    gate, task = started(tasks)
    with opened(gate):
        patient = threading.Thread(target=tasks.close, args=(PATIENCE_S,))
        patient.start()
        refused = False
        while not refused:  # until it has begun
            try:
                tasks.submit(len, "four").result(PATIENCE_S)
            except TasksClosed:
                refused = True
        tasks.close(drain_s=0.0)
        assert task.status().state == "cancelled"
        patient.join(PATIENCE_S)


def test_no_queued_task_starts_while_close_cancels_them() -> None:
    begun: list[int] = []
    gate = threading.Event()

    @async_task
    def obey(ctx: TaskContext) -> None:
        gate.set()
        ctx.wait(PATIENCE_S)

    tasks = TaskManager(Limits(threads=1, queued=5_000))
    tasks.submit(obey)
    assert gate.wait(PATIENCE_S)
    for number in range(5_000):
        tasks.submit(begun.append, number)
    tasks.close(drain_s=0.0)
    assert begun == []


def test_a_block_that_fails_does_not_wait_for_its_tasks() -> None:
    gate = Gate()
    submitted = []

    def fail() -> None:
        with TaskManager(FEW) as tasks:
            submitted.append(tasks.submit(gated, gate))
            raise KeyError

    with opened(gate):
        with pytest.raises(KeyError):
            fail()
        assert submitted[0].status().state == "cancelled"


def test_background_queues_run_dry_in_order_before_the_end(caplog: pytest.LogCaptureFixture) -> None:
    done: list[int] = []
    gate = Gate()
    with TaskManager(FEW) as tasks:
        audit = tasks.background("audit", queued=100)
        audit.put(gated, gate)
        for number in range(20):
            audit.put(done.append, number)
        audit.put(int, "no number")
        assert len(audit) >= 20
        gate.open()
    assert done == list(range(20))
    assert "background task" in caplog.text
    assert "no number" in caplog.text
    # Nobody asks for them.
    assert tasks.counts().kept == 0


def test_the_log_says_which_background_tasks_were_not_done(caplog: pytest.LogCaptureFixture) -> None:
    gate = Gate()
    with opened(gate), caplog.at_level(logging.WARNING):
        tasks = TaskManager(FEW)
        audit = tasks.background("audit")
        audit.put(gated, gate)
        audit.put(len, "four")
        tasks.close(drain_s=0.0)
    assert caplog.text.count("was not done: cancelled") == 2


def test_a_fork_does_not_use_its_parents_manager(tasks: TaskManager) -> None:
    tasks.submit(len, "four").result(PATIENCE_S)
    if (pid := os.fork()) == 0:
        try:
            tasks.submit(len, "four")
        except TasksClosed:
            tasks.close()
            os._exit(7)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    assert tasks.submit(len, "four").result(PATIENCE_S) == 4


@pytest.mark.parametrize("limit", ["threads", "processes", "queued"])
def test_limits_under_which_nothing_would_start_are_refused(limit: str) -> None:
    with pytest.raises(ValueError, match=f"{limit} is 0"):
        msgspec.convert({limit: 0}, Limits)
