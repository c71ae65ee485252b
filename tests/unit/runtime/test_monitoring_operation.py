"""What is known of an operation: nothing lost, nothing twice, in bounded memory."""

import random
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import pytest

from runtime.monitoring import Operation, Operations
from runtime.monitoring.monitored import OPERATIONS_MOST
from runtime.monitoring.operation import ERROR_TYPES, FULL, OTHER
from runtime.monitoring.windows import WINDOW_S, WINDOWS


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self, now_s: float = 1_000.0) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def operation(clock: Clock) -> Operation:
    return Operation("test", clock)


def take(operation: Operation, clock: Clock, *durations_s: float) -> None:
    """Calls that take this long, one after the other."""
    for duration_s in durations_s:
        operation.call(lambda passed_s: setattr(clock, "now_s", clock.now_s + passed_s), duration_s)


def fail(operation: Operation, error: BaseException) -> None:
    def failing() -> None:
        raise error

    with pytest.raises(type(error)):
        operation.call(failing)


def test_every_call_is_in_the_percentiles_that_are_read(operation: Operation, clock: Clock) -> None:
    take(operation, clock, *(milli / 1_000 for milli in range(1, 101)))
    durations = operation.reading().durations
    assert durations.count == 100
    assert durations.quantile(0.5) == pytest.approx(0.050, rel=0.01)
    assert durations.quantile(0.99) == pytest.approx(0.099, rel=0.01)
    assert durations.max_s == pytest.approx(0.1)


def test_reading_changes_nothing(operation: Operation, clock: Clock) -> None:
    take(operation, clock, 0.1)
    readings = [operation.reading() for _ in range(3)]
    take(operation, clock, 0.1)
    assert [one.durations.count for one in readings] == [1, 1, 1]
    assert [one.in_flight for one in readings] == [0, 0, 0]
    assert operation.reading().durations.count == 2


def test_errors_count_by_type_and_apart_from_what_was_told_to_stop(operation: Operation, clock: Clock) -> None:
    for error in (ValueError(), ValueError(), KeyError(), KeyboardInterrupt(), GeneratorExit()):
        fail(operation, error)
    take(operation, clock, 0.5)
    reading = operation.reading()
    assert reading.errors == {"ValueError": 2, "KeyError": 1}
    assert (reading.cancelled, reading.durations.count, reading.failed.count) == (2, 1, 3)


def test_types_of_error_without_end_are_counted_together(operation: Operation) -> None:
    for number in range(ERROR_TYPES + 5):
        fail(operation, type(f"Error{number}", (Exception,), {})())
    errors = operation.reading().errors
    assert len(errors) == ERROR_TYPES + 1
    assert errors[OTHER] == 5


def test_calls_under_way_are_told(operation: Operation) -> None:
    seen: list[int] = []
    operation.call(lambda: operation.call(lambda: seen.append(operation.reading().in_flight)))
    assert seen == [2]
    assert operation.reading().in_flight == 0


def test_notes_that_nobody_reads_are_bounded(operation: Operation, clock: Clock) -> None:
    for _ in range(3 * FULL):
        take(operation, clock, 0.001)
        assert len(operation.notes) < FULL
    assert operation.reading().durations.count == 3 * FULL


def test_windows_are_of_when_calls_ended_not_of_when_somebody_looked(operation: Operation, clock: Clock) -> None:
    clock.now_s = 10 * WINDOW_S
    take(operation, clock, 1.0, 1.0)
    clock.now_s = 12 * WINDOW_S
    take(operation, clock, 3.0)
    fail(operation, ValueError())
    clock.now_s = 14 * WINDOW_S
    take(operation, clock, 1.0)
    windows = operation.reading().windows
    assert [(one.begins_s / WINDOW_S, one.returned, one.errors) for one in windows] == [(10, 2, 0), (12, 1, 1)]
    assert windows[1].p50_s == pytest.approx(3.0, rel=0.01)


def test_the_error_ratio_is_that_of_the_last_windows(operation: Operation, clock: Clock) -> None:
    take(operation, clock, *[0.01] * 50)
    clock.now_s += 20 * WINDOW_S
    take(operation, clock, 0.01, 0.01, 0.01)
    fail(operation, ValueError())
    fail(operation, KeyboardInterrupt())
    recent = operation.recent(4 * WINDOW_S)
    assert (recent.returned, recent.errors, recent.cancelled, recent.durations.count) == (3, 1, 1, 3)
    ratio = recent.error_ratio()
    assert ratio.value == 0.25
    assert 0.03 < ratio.low < 0.06
    assert 0.6 < ratio.high < 0.8
    assert operation.recent(100 * WINDOW_S).returned == 53


def test_a_window_counts_as_recent_while_any_of_it_is(operation: Operation, clock: Clock) -> None:
    clock.now_s = 100 * WINDOW_S
    take(operation, clock, 0.01)
    clock.now_s = 101 * WINDOW_S + 5.0
    assert operation.recent(5.1).returned == 1
    assert operation.recent(4.9).returned == 0


def test_what_a_thread_notes_late_counts_in_the_window_that_is_open(operation: Operation, clock: Clock) -> None:
    late_s = clock.now_s
    clock.now_s += 5 * WINDOW_S
    take(operation, clock, 0.01)
    operation.reading()
    operation.notes.extend((late_s - 1.0, late_s))
    operation.reading()
    take(operation, clock, 0.01)
    clock.now_s += WINDOW_S
    take(operation, clock, 0.01)
    (window,) = operation.reading().windows
    assert (window.returned, window.begins_s) == (3, (late_s // WINDOW_S + 5) * WINDOW_S)


def test_old_windows_are_forgotten_but_not_their_calls(operation: Operation, clock: Clock) -> None:
    for _ in range(WINDOWS + 20):
        take(operation, clock, 0.01)
        clock.now_s += WINDOW_S
    reading = operation.reading()
    assert len(reading.windows) == WINDOWS
    assert reading.durations.count == WINDOWS + 20


def test_memory_does_not_grow_with_calls_or_time() -> None:
    clock, draw = Clock(), random.Random(1)
    operation = Operation("test", clock)

    def call(times: int) -> int:
        for _ in range(times):
            take(operation, clock, draw.lognormvariate(-5, 1))
            clock.now_s += WINDOW_S / 10
        operation.reading()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        full_bytes = call(10 * (WINDOWS + 1))
        assert call(10 * WINDOWS) - full_bytes < 32_768
    finally:
        tracemalloc.stop()


def test_a_call_never_waits_for_whoever_folds(operation: Operation, clock: Clock) -> None:
    with operation._lock:
        take(operation, clock, *[0.001] * FULL)
    assert operation.reading().durations.count == FULL


def test_nothing_is_lost_between_threads_that_call_and_one_that_reads() -> None:
    operation = Operations().of("test")
    threads, calls, done = 8, 5_000, threading.Event()

    def call() -> None:
        for number in range(calls):
            if number % 10:
                operation.call(int)
            else:
                fail(operation, ValueError())

    def read() -> list[int]:
        counts = []
        while not done.is_set():
            reading = operation.reading()
            counts.append(reading.durations.count + reading.errors.get("ValueError", 0))
            assert 0 <= reading.in_flight <= threads + FULL
        return counts

    with ThreadPoolExecutor(threads + 1) as pool:
        reader = pool.submit(read)
        for future in [pool.submit(call) for _ in range(threads)]:
            future.result()
        done.set()
        counts = reader.result()
    reading = operation.reading()
    assert (reading.durations.count, reading.errors) == (
        threads * calls * 9 // 10,
        {"ValueError": threads * calls // 10},
    )
    assert reading.in_flight == 0
    assert counts == sorted(counts)


def test_operations_without_end_are_one() -> None:
    operations = Operations()
    for number in range(OPERATIONS_MOST + 3):
        operations.of(f"operation {number}").call(int)
    readings = {one.name: one for one in operations.readings()}
    assert len(readings) == OPERATIONS_MOST + 1
    assert readings[OTHER].durations.count == 3
