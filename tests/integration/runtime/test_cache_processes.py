"""One load for processes and threads together, and for those who are left when the one who loads dies."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from redis import Redis

from tests.integration.runtime.cache_sight import until

PROCESSES = 4
THREADS = 25


def test_a_hundred_callers_in_four_processes_load_once(redis_url: str) -> None:
    with ExitStack() as stack, Redis.from_url(redis_url) as client:
        children = [stack.enter_context(child(redis_url, "a", 0.5)) for _ in range(PROCESSES)]
        for each in children:
            start(each)
        answers = [each.communicate(timeout=60)[0].split("\n")[0] for each in children]
        assert answers == [f"{THREADS} value 1"] * PROCESSES
        assert client.get("loads:a") == b"1"


def test_another_process_loads_where_the_one_that_loaded_was_killed(redis_url: str) -> None:
    with ExitStack() as stack, Redis.from_url(redis_url) as client:
        first = stack.enter_context(child(redis_url, "a", 600))
        start(first)
        until(lambda: client.get("loads:a") == b"1")
        second = stack.enter_context(child(redis_url, "a", 0))
        start(second)
        first.kill()
        first.wait()
        # The lease of the dead one runs out by itself, here within what is left of it.
        (lease,) = client.scan_iter("headrace-cache:l:*")
        client.pexpire(lease, 300)
        assert second.communicate(timeout=60)[0] == f"{THREADS} value 2\n"


@contextmanager
def child(url: str, name: str, seconds: float) -> Iterator["subprocess.Popen[str]"]:
    """A process that is ready to ask, and is gone afterwards."""
    command = [sys.executable, "-m", "tests.integration.runtime.cache_child", url, name, str(seconds), str(THREADS)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def start(process: "subprocess.Popen[str]") -> None:
    """Let it ask."""
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()
