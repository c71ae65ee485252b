"""The queue of tasks: its bound, its order, and those who wait for a place."""

import itertools
import sys
import threading
from types import FrameType
from typing import Any

import pytest

from runtime.tasks.errors import QueueFull, TasksClosed
from runtime.tasks.functions import Options
from runtime.tasks.ledger import Ledger
from runtime.tasks.life import Call, Life
from runtime.tasks.queue import TaskQueue
from runtime.tasks.status import Reason
from runtime.tasks.timers import Timers
from tests.unit.runtime.gates import PATIENCE_S


@pytest.fixture
def queue() -> TaskQueue:
    return TaskQueue("test", 2)


def task_of(queue: TaskQueue, number: int) -> Life[int]:
    ledger = Ledger(Timers(threaded=False), keep_s=1.0, keep=0, board=None)
    return Life(str(number), Call(int, (), {}), Options(), ledger, queue)


class Waits(threading.Thread):
    """Somebody who waits for a place; started, he stands in line."""

    def __init__(self, queue: TaskQueue, task: Life[int]) -> None:
        super().__init__(daemon=True)
        self.queue = queue
        self.task = task
        self.refused = False
        self.start()
        while not queue.waiting and self.is_alive():
            threading.Event().wait(0.001)

    def run(self) -> None:
        try:
            self.queue.put(self.task, None)
        except TasksClosed:
            self.refused = True


def test_tasks_leave_in_the_order_in_which_they_came(queue: TaskQueue) -> None:
    first, second = task_of(queue, 1), task_of(queue, 2)
    assert queue.offer(first)
    assert queue.offer(second)
    assert not queue.offer(task_of(queue, 3))
    assert (queue.get(), queue.get()) == (first, second)


def test_nobody_overtakes_one_who_waits(queue: TaskQueue) -> None:
    tasks = [task_of(queue, number) for number in range(3)]
    queue.offer(tasks[0])
    queue.offer(tasks[1])
    waits = Waits(queue, tasks[2])
    # He has a place before anybody else can ask for one.
    assert queue.get() is tasks[0]
    assert not queue.offer(task_of(queue, 3))
    waits.join(PATIENCE_S)
    assert (queue.get(), queue.get()) == (tasks[1], tasks[2])


def test_a_task_that_is_taken_out_makes_room_for_one_who_waits(queue: TaskQueue) -> None:
    tasks = [task_of(queue, number) for number in range(3)]
    queue.offer(tasks[0])
    queue.offer(tasks[1])
    waits = Waits(queue, tasks[2])
    assert queue.remove(tasks[0])
    assert not queue.remove(tasks[0])
    waits.join(PATIENCE_S)
    assert (queue.get(), queue.get()) == (tasks[1], tasks[2])


def test_one_whose_time_is_over_leaves_the_line(queue: TaskQueue) -> None:
    tasks = [task_of(queue, number) for number in range(3)]
    queue.offer(tasks[0])
    queue.offer(tasks[1])
    with pytest.raises(QueueFull):
        queue.put(tasks[2], 0.01)
    assert (queue.get(), queue.get()) == (tasks[0], tasks[1])
    assert len(queue) == 0


def test_a_queue_that_refuses_gives_out_what_it_has_and_sends_the_others_away(queue: TaskQueue) -> None:
    tasks = [task_of(queue, number) for number in range(3)]
    queue.offer(tasks[0])
    queue.offer(tasks[1])
    waits = Waits(queue, tasks[2])
    queue.end()
    waits.join(PATIENCE_S)
    assert waits.refused
    with pytest.raises(TasksClosed):
        queue.offer(task_of(queue, 3))
    # As often as there are workers.
    assert [queue.get() for _ in range(4)] == [tasks[0], tasks[1], None, None]


def test_workers_that_wait_go_home_although_the_last_task_is_taken_out(queue: TaskQueue) -> None:
    task = task_of(queue, 1)
    queue.offer(task)
    queue.end()
    queue.remove(task)
    assert queue.get() is None


def test_a_task_that_is_stopped_on_its_way_to_a_worker_does_not_begin(queue: TaskQueue) -> None:
    task = task_of(queue, 1)
    queue.offer(task)
    assert queue.get() is task
    task.stop("cancelled")
    # Nobody runs it yet, so nobody could be told.
    assert task.status().state == "queued"
    assert not task.begin(Nobody())
    assert task.status().state == "cancelled"


def offer_interrupted(queue: TaskQueue, task: Life[int], at_line: int) -> bool:
    """Submit, with Ctrl-C before the line of this number; whether there was none."""
    # Each once: ``with`` comes again as it is left, where no signal is handled before the lock is free.
    lines = set[int]()

    def trace(frame: FrameType, event: str, _argument: object) -> Any:
        if event == "line" and frame.f_code is TaskQueue.offer.__code__ and frame.f_lineno not in lines:
            lines.add(frame.f_lineno)
            if len(lines) == at_line + 1:
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        return queue.offer(task)
    except KeyboardInterrupt:
        return False
    finally:
        sys.settrace(before)


def test_ctrl_c_at_any_line_of_a_submission_keeps_no_later_task_from_its_worker() -> None:
    for line in itertools.count():
        queue = TaskQueue("test", 10)
        whole = offer_interrupted(queue, task_of(queue, 1), line)
        last = task_of(queue, 2)
        queue.offer(last)

        def work(queue: TaskQueue = queue, last: Life[int] = last) -> None:
            while queue.get() is not last:
                pass

        worker = threading.Thread(target=work, daemon=True)
        worker.start()
        worker.join(PATIENCE_S)
        assert not worker.is_alive(), line
        if whole:
            return


class Nobody:
    """Runs nothing."""

    def stop(self, task: Life[object], reason: Reason) -> None: ...
