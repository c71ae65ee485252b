"""``taskiq_noop.py JOBS``: no-op tasks through Taskiq, seconds from the first send to the last result.

Broker: a Redis stream, acknowledged when a task was executed and its result saved; results in Redis. Two workers.
"""

import asyncio
import os
import signal
import subprocess
import sys
import time

from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

REDIS = os.environ["HEADRACE_REDIS"].rpartition("/")[0]
broker = RedisStreamBroker(f"{REDIS}/5", xread_count=int(os.environ.get("BENCH_PREFETCH", "100"))).with_result_backend(
    RedisAsyncResultBackend(f"{REDIS}/6", result_ex_time=3600)
)
IN_FLIGHT = 100


# By default named after the path that this file was started by, under which no worker knows it.
@broker.task(task_name="noop")
async def noop(number):
    return number


async def send(numbers):
    """Send with so many on their way at once."""
    tasks = []
    for first in range(0, len(numbers), IN_FLIGHT):
        tasks += await asyncio.gather(*(noop.kiq(number) for number in numbers[first : first + IN_FLIGHT]))
    return tasks


async def measure(jobs):
    await broker.startup()
    for task in await send(range(100)):
        await task.wait_result(check_interval=0.005, timeout=60)
    started = time.monotonic()
    for task in await send(range(jobs)):
        await task.wait_result(check_interval=0.005, timeout=120)
    seconds = time.monotonic() - started
    await broker.shutdown()
    return seconds


if __name__ == "__main__":
    here = os.path.dirname(os.path.abspath(__file__))
    command = [sys.executable, "-m", "taskiq", "worker", "taskiq_noop:broker", "--workers", "2",
               "--ack-type", "when_saved", "--log-level", "ERROR", "--max-async-tasks", "100"]  # fmt: skip
    process = subprocess.Popen(
        command, cwd=here, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        print(asyncio.run(measure(int(sys.argv[1]))))
    finally:
        # After SIGTERM its supervisor waits for workers that do not end.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
