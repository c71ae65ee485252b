"""``dramatiq_noop.py JOBS``: no-op actors through Dramatiq, seconds from the first send to the last result.

Broker and results: Redis. Two worker processes; Dramatiq acknowledges a message after its actor, always.
"""

import os
import subprocess
import sys
import time

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

REDIS = os.environ["HEADRACE_REDIS"].rpartition("/")[0]
broker = RedisBroker(url=f"{REDIS}/3")
broker.add_middleware(Results(backend=RedisBackend(url=f"{REDIS}/4")))
dramatiq.set_broker(broker)


@dramatiq.actor(store_results=True, max_retries=0)
def noop(number):
    return number


def measure(jobs):
    for message in [noop.send(number) for number in range(100)]:
        message.get_result(block=True, timeout=60_000)
    started = time.monotonic()
    messages = [noop.send(number) for number in range(jobs)]
    for message in messages:
        message.get_result(block=True, timeout=120_000)
    return time.monotonic() - started


if __name__ == "__main__":
    threads = os.environ.get("BENCH_THREADS", "8")
    command = [sys.executable, "-m", "dramatiq", "dramatiq_noop", "--processes", "2", "--threads", threads]
    log = subprocess.DEVNULL
    process = subprocess.Popen(command, cwd=os.path.dirname(os.path.abspath(__file__)), stdout=log, stderr=log)
    try:
        print(measure(int(sys.argv[1])))
    finally:
        process.terminate()
        process.wait()
