"""What other processes see of tasks, in a real Redis."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from redis import Redis

from deploy.local.ports import free_ports
from runtime.tasks import Limits, Progress, RedisBoard, TaskManager, TaskStatus
from runtime.tasks.board import BUFFERED, PREFIX, RECENT
from tests.unit.runtime.gates import PATIENCE_S, Gate, gated, opened


@pytest.fixture
def board(redis_url: str) -> Iterator[RedisBoard]:
    """Another process' eye."""
    board = RedisBoard.connect(redis_url)
    yield board
    board.close()


def wait_for(look: Callable[[], TaskStatus | None], wanted: Callable[[TaskStatus], bool]) -> TaskStatus:
    """What Redis shows, once it shows what is wanted."""
    until_s = time.monotonic() + PATIENCE_S
    while (status := look()) is None or not wanted(status):
        assert time.monotonic() < until_s, status
        time.sleep(0.01)
    return status


READER = """
import sys
from runtime.tasks import RedisBoard
status = RedisBoard.connect(sys.argv[1]).read(sys.argv[2])
print(status.state, status.name, status.pool, status.progress.done, status.progress.message, end="")
"""


def test_another_process_sees_a_task_run_and_end(redis_url: str, board: RedisBoard) -> None:
    gate = Gate()
    with opened(gate), TaskManager(Limits(threads=1), RedisBoard.connect(redis_url)) as tasks:
        task = tasks.submit(gated, gate)
        gate.commands.put("report")
        wait_for(lambda: board.read(task.id), lambda status: status.progress == Progress(1, 2, "half"))
        seen = subprocess.run(
            [sys.executable, "-c", READER, redis_url, task.id], check=True, capture_output=True, text=True
        ).stdout
        assert seen == "running gated threads 1.0 half"
        gate.commands.put("raise")
        failed = wait_for(lambda: board.read(task.id), lambda status: status.ended)
        assert failed == task.status()
        assert failed.failure is not None
        assert failed.failure.is_a(ValueError)


def test_the_end_is_shown_when_the_manager_is_closed(redis_url: str, board: RedisBoard) -> None:
    with TaskManager(Limits(threads=1), RedisBoard.connect(redis_url)) as tasks:
        last = [tasks.submit(len, "four") for _ in range(50)]
    assert [board.read(task.id) == task.status() for task in last] == [True] * 50
    assert {status.id for status in board.recent()} == {task.id for task in last}
    assert len(board.recent(most=10)) == 10


def test_everything_in_redis_runs_out(redis_url: str) -> None:
    with TaskManager(Limits(threads=1), RedisBoard.connect(redis_url, ttl_s=60)) as tasks:
        task = tasks.submit(len, "four")
    with Redis.from_url(redis_url) as client:
        keys = client.keys()
        assert sorted(keys) == sorted([(PREFIX + task.id).encode(), RECENT.encode()])
        assert all(0 < client.ttl(key) <= 60 for key in keys)


def test_a_task_that_nobody_has_seen_is_none(board: RedisBoard) -> None:
    assert board.read("task-0-1") is None
    assert board.recent() == []


def test_many_news_of_a_task_are_one_write(redis_url: str) -> None:
    class Counting(RedisBoard):
        written = 0

        def _write(self, batch: dict[str, TaskStatus]) -> None:
            Counting.written += len(batch)
            super()._write(batch)

    board = Counting(Redis.from_url(redis_url))
    for state in ("queued", "running", "succeeded"):
        board.note(TaskStatus("one", "len", "threads", state, 1.0))
    board.close()
    assert Counting.written == 1


def test_without_redis_tasks_run_and_nothing_waits_for_it(caplog: pytest.LogCaptureFixture) -> None:
    (port,) = free_ports(1)
    tried = threading.Event()

    class Trying(RedisBoard):
        def flush(self) -> None:
            super().flush()
            tried.set()

    with TaskManager(Limits(threads=1), Trying.connect(f"redis://127.0.0.1:{port}/0")) as tasks:
        assert tasks.submit(len, "four").result(PATIENCE_S) == 4
        assert tried.wait(PATIENCE_S)
        assert tasks.submit(len, "four").result(PATIENCE_S) == 4
    assert caplog.text.count("Redis does not take them") == 1


def test_news_wait_for_redis_the_latest_and_not_too_many(redis_url: str, board: RedisBoard) -> None:
    class Away(RedisBoard):
        away = True

        def _write(self, batch: dict[str, TaskStatus]) -> None:
            if self.away:
                raise ConnectionError("away")
            super()._write(batch)

    waiting = Away(Redis.from_url(redis_url))
    first = TaskStatus("first", "len", "threads", "queued", 1.0)
    waiting.note(first)
    waiting.flush()
    waiting.note(TaskStatus("first", "len", "threads", "running", 1.0))
    waiting.flush()
    for number in range(BUFFERED + 10):
        waiting.note(TaskStatus(f"later-{number}", "len", "threads", "queued", 1.0))
    waiting.note(TaskStatus("last", "len", "threads", "queued", 1.0))
    waiting.away = False
    waiting.close()
    assert board.read("first") is None
    assert board.read("last") is not None
    assert len(board.recent(most=BUFFERED + 100)) == BUFFERED
