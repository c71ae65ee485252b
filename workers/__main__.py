"""``python -m workers``: one worker, with the servers that the environment's ``HEADRACE_`` variables name.

SIGTERM or SIGINT: it takes no more jobs, finishes what it can in a few seconds, and exits with 0.
"""

import asyncio
import logging
import os
import signal
import threading
from contextlib import closing
from functools import partial
from typing import Final

from runtime.database import Database
from runtime.database.thread import DatabaseThread
from runtime.kafka import Publisher
from runtime.monitoring import Metrics, MetricsReporter
from runtime.settings import Settings
from schemas.errors import HeadraceError
from workers.consumer import open_partition
from workers.context import Tools
from workers.evaluate import evaluate
from workers.finetune import finetune
from workers.generate import generate
from workers.job import Handlers
from workers.tools import open_tools
from workers.worker import Servers, Worker

log = logging.getLogger("workers")

#: How long a worker that lost its partition may take to close what it has open.
ABORT_S: Final = 5.0


def main() -> int:
    """Run a worker; the exit status is 0 only after a stop that was asked for."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        serve(Settings.from_env(os.environ), Handlers(generate, finetune, evaluate))
    except HeadraceError as error:
        log.error("%s: %s", error.code, error)
        return 1
    return 0


def serve(settings: Settings, handlers: Handlers) -> None:
    """Open everything, work until a signal comes, close everything.

    Raises:
        HeadraceError: the worker could not begin, or lost its partition.
    """
    metrics = Metrics("worker")
    database = Database(settings.database, "headrace-worker")
    publisher = Publisher(settings.kafka, "worker")
    reporter = MetricsReporter(metrics, publisher, settings.metrics_interval_s)
    try:
        with open_tools(settings, database, metrics) as tools, closing(DatabaseThread(database)) as thread:
            servers = Servers(thread, publisher, partial(open_partition, settings.kafka), metrics)
            asyncio.run(_work(settings, servers, tools, handlers))
    finally:
        reporter.close()
        publisher.close()
        database.close()


async def _work(settings: Settings, servers: Servers, tools: Tools, handlers: Handlers) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    try:
        await Worker(settings, servers, tools, handlers).run(stop)
    except BaseException:
        # A thread that waits for a dead server can't be ended, and its worker must not linger:
        # others may own its jobs by now.
        abort = threading.Timer(ABORT_S, os._exit, (1,))
        abort.daemon = True
        abort.start()
        raise


if __name__ == "__main__":
    status = main()
    logging.shutdown()
    # Everything is closed. Python's own teardown of torch would take seconds of the ten that
    # supervisors give, and would wait for a trainer's thread that is still in its last step.
    os._exit(status)
