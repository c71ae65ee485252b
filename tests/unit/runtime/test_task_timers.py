"""What happens at its time, by a clock that is set."""

import math
import threading

import pytest

from runtime.tasks.timers import FORGOTTEN, Timers
from tests.unit.runtime.gates import PATIENCE_S, Clock


def test_what_is_due_is_done_in_the_order_of_its_time() -> None:
    clock, done = Clock(), list[str]()
    timers = Timers(clock, threaded=False)
    timers.after(2.0, lambda: done.append("second"))
    timers.after(1.0, lambda: done.append("first"))
    timers.after(3.0, lambda: done.append("third"))
    clock.now_s += 2.0
    assert timers.run_due() == pytest.approx(1.0)
    assert done == ["first", "second"]
    timers.close()


def test_what_is_forgotten_is_not_done_and_takes_no_room() -> None:
    clock, done = Clock(), list[int]()
    timers = Timers(clock, threaded=False)
    for number in range(10_000):
        timers.after(3_600.0, lambda number=number: done.append(number))()  # type: ignore[misc]  # a default
    assert len(timers) <= FORGOTTEN + 1
    timers.after(1.0, lambda: done.append(-1))
    clock.now_s += 3_600.0
    timers.run_due()
    assert done == [-1]
    timers.close()


def test_one_that_fails_does_not_keep_the_others_from_their_time(caplog: pytest.LogCaptureFixture) -> None:
    clock, done = Clock(), list[str]()
    timers = Timers(clock, threaded=False)
    timers.after(1.0, lambda: [][0])
    timers.after(2.0, lambda: done.append("second"))
    clock.now_s += 2.0
    timers.run_due()
    assert done == ["second"]
    assert "a timer failed" in caplog.text
    timers.close()


def test_the_thread_wakes_for_an_earlier_time() -> None:
    timers, done = Timers(), threading.Event()
    timers.after(3_600.0, lambda: None)
    timers.after(0.01, done.set)
    assert done.wait(PATIENCE_S)
    timers.close()


def test_a_time_that_never_comes_does_not_keep_the_others_from_theirs() -> None:
    timers = Timers()
    timers.after(math.inf, lambda: None)
    for _ in range(3):
        # When it is done, the thread waits for the one that never comes.
        done = threading.Event()
        timers.after(0.01, done.set)
        assert done.wait(PATIENCE_S)
    timers.close()
