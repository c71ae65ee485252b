"""A publisher whose clock is set back by an hour."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.kafka_clock import STEP_S, ClockWatch, WatchedProducer
from tests.acceptance.faults import clocks
from tests.integration.runtime import clock_child

HOUR_S = 3_600


@pytest.mark.skipif(clocks.library() is None, reason="libfaketime (Debian's package faketime) is not installed")
def test_what_was_published_while_the_clock_was_ahead_is_reported_once_it_is_set_back(
    kafka: str, tmp_path: Path
) -> None:
    offset_file = tmp_path / "clock"
    environment = {**os.environ, **clocks.environment(offset_file)}
    command = [sys.executable, "-m", clock_child.__name__, kafka]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            with clocks.jump(offset_file, HOUR_S):
                assert process.stdout.readline().strip() == clock_child.AHEAD
            output, _ = process.communicate(timeout=40)
        finally:
            process.kill()
    assert output.strip() == clock_child.OVER


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


class Sleeper(WatchedProducer):
    """Counts how often it is woken, and is hard to wake at first."""

    def __init__(self, *, tries: int) -> None:
        super().__init__({"bootstrap.servers": "127.0.0.1:1", "log_level": 0})
        self.woken = 0
        self._tries = tries

    def wake(self) -> bool:
        self.woken += 1
        return self.woken >= self._tries


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def watch(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> ClockWatch:
    watch = ClockWatch(clock, lambda: 0.0)
    monkeypatch.setattr("threading.Thread.start", lambda _thread: None)
    return watch


def test_producers_are_woken_only_when_the_clock_was_set_back(clock: Clock, watch: ClockWatch) -> None:
    producer = Sleeper(tries=1)
    watch.add(producer)
    for step_s in (0.0, HOUR_S, -STEP_S / 2):
        clock.now_s += step_s
        watch.look()
    assert producer.woken == 0
    clock.now_s -= HOUR_S
    watch.look()
    watch.look()
    assert producer.woken == 1


def test_one_that_no_broker_answers_is_woken_again(clock: Clock, watch: ClockWatch) -> None:
    producer = Sleeper(tries=3)
    watch.add(producer)
    clock.now_s -= HOUR_S
    for _ in range(5):
        watch.look()
    assert producer.woken == 3
