"""A worker's process from its signals to its exit: opens the servers, works until it is told to stop, closes all.

What the worker can do is given: this file knows no model, and importing it costs no torch.
"""

import asyncio
import os
import signal
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from functools import partial
from typing import Final

from runtime import interpreter
from runtime.database import Database
from runtime.database.thread import DatabaseThread
from runtime.kafka import Publisher
from runtime.monitoring import (
    OPERATIONS,
    Metrics,
    MetricsReporter,
    NvmlGpus,
    OperationCollector,
    System,
    SystemCollector,
)
from runtime.pools import PoolCollector
from runtime.settings import Settings
from workers.consumer import open_partition
from workers.context import Tools
from workers.job import Handlers
from workers.worker import Servers, Worker

#: How long a worker that failed may take to close what it has open, and one that has left as it was told to:
#: supervisors kill after 10 s, and most of them are over by then.
ABORT_S: Final = 5.0
CLOSE_S: Final = 2.0

OpenTools = Callable[[Settings, Database, Metrics], AbstractContextManager[Tools]]


def serve(settings: Settings, handlers: Handlers, open_tools: OpenTools) -> None:
    """Open everything, work until a signal comes, close everything.

    Raises:
        HeadraceError: the worker could not begin, or lost its partition.
    """
    metrics = Metrics("worker")
    metrics.add(OperationCollector(OPERATIONS))
    metrics.add(SystemCollector(System([settings.cache_dir], NvmlGpus())))
    database = Database(settings.database, "headrace-worker")
    metrics.add(PoolCollector(database.pool))
    publisher = Publisher(settings.kafka, "worker")
    reporter = MetricsReporter(metrics, publisher, settings.metrics_interval_s)
    try:
        with (
            open_tools(settings, database, metrics) as tools,
            closing(DatabaseThread(database)) as thread,
            closing(DatabaseThread(database)) as renewals,
        ):
            interpreter.settle()
            servers = Servers(thread, renewals, publisher, partial(open_partition, settings.kafka), metrics)
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
        await Worker(settings, servers, tools, handlers).run(stop, partial(_exit_soon, ABORT_S, 1))
    except BaseException:
        # It could not begin, or failed as it left.
        _exit_soon(ABORT_S, 1)
        raise
    # A thread that still fetches a model would be waited for to its end.
    _exit_soon(CLOSE_S, 0)


def _exit_soon(delay_s: float, status: int) -> None:
    """Be gone by then, whatever is waited for.

    A thread that waits for a dead server can't be ended, and its worker must not linger: others may own its jobs by
    now.
    """
    abort = threading.Timer(delay_s, os._exit, (status,))
    abort.daemon = True
    abort.start()
