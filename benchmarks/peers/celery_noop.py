"""``celery_noop.py JOBS redis|postgres``: no-op tasks through Celery; prints the seconds to the last result.

Broker: Redis. Two worker processes (prefork), which acknowledge a task after it was executed; results in Redis or in
Postgres. As ``celery_noop.py worker redis|postgres`` it is the worker.
"""

import os
import subprocess
import sys
import time

from celery import Celery, group

RESULTS = sys.argv[2]
REDIS = os.environ["HEADRACE_REDIS"].rpartition("/")[0]
WORKER = ["worker", "--pool=prefork", "--concurrency=2", "--without-gossip", "--without-mingle",
          "--without-heartbeat", "--loglevel=ERROR", "--optimization=fair"]  # fmt: skip

app = Celery("celery_noop", broker=f"{REDIS}/1")
app.conf.update(
    result_backend=f"{REDIS}/2" if RESULTS == "redis" else "db+" + os.environ["HEADRACE_DATABASE"],
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=64,
    worker_hijack_root_logger=False,
    worker_send_task_events=False,
    task_send_sent_event=False,
    broker_connection_retry_on_startup=True,
)


@app.task(name="noop")
def noop(number):
    """Return at once."""
    return number


def measure(jobs):
    """Seconds from the first send to the last result."""
    group(noop.s(number) for number in range(100)).apply_async().get(timeout=60)
    started = time.monotonic()
    results = [noop.delay(number) for number in range(jobs)]
    for result in results:
        result.get(timeout=120, interval=0.01)
    return time.monotonic() - started


if __name__ == "__main__":
    if sys.argv[1] == "worker":
        app.worker_main(WORKER)
    else:
        command = [sys.executable, __file__, "worker", RESULTS]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            print(measure(int(sys.argv[1])))
        finally:
            process.terminate()
            process.wait()
