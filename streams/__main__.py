"""``python -m streams``: admit requests, give jobs to workers, and serve the metrics of all processes.

Any number of these processes share the work. It ends by SIGTERM or SIGINT with status 0, and with
status 1 by an error that it can't mend: nothing that was not finished is lost then, it is read again.
SIGUSR1 has it write to its log what each of its threads is at.
"""

import asyncio
import logging
import os
import signal
import time
from collections.abc import Coroutine, Sequence
from contextlib import ExitStack, closing
from functools import partial
from typing import Any, Final

from faust.types import TP

from runtime import interpreter
from runtime.database import Database
from runtime.database.thread import DatabaseThread
from runtime.kafka import Publisher
from runtime.kafka_transactions import TransactionalLog
from runtime.monitoring import OPERATIONS, Metrics, MetricsReporter, OperationCollector, System, SystemCollector
from runtime.pools import PoolCollector
from runtime.settings import InvalidSetting, Settings
from runtime.topic_admin import TopicAdmin, TopicsMissing
from schemas import topics
from schemas.errors import HeadraceError
from streams.app import Dispatcher, bind, create_app
from streams.chunks import Chunk
from streams.control import Control
from streams.dispatch import Dispatch
from streams.instruments import Instruments
from streams.intake import AT_ONCE, Intake
from streams.logs import configure
from streams.metrics import Bridge, MetricsPage
from streams.quotas import Quotas
from streams.reaper import Reaper
from streams.reconciler import Reconciler
from streams.relay import NAME as RELAY
from streams.relay import Relay
from streams.request_log import KafkaRequestLog
from streams.samples import History
from streams.underway import FINISH_S
from streams.work import LINGER_MS as WORK_LINGER_MS
from streams.work import Retelling

log = logging.getLogger("streams")

SERVICE: Final = "dispatcher"
HEARTBEATS: Final = TP(topics.WORKERS.name, 0)
METRICS: Final = TP(topics.METRICS.name, 0)
#: What a stop may take before the process leaves without it; supervisors wait for 10 s.
STOP_S: Final = 5.0
FLUSH_S: Final = 3.0


async def run(settings: Settings, stack: ExitStack) -> int:
    """Serve until a signal or an error; the exit status. What is opened is closed by ``stack``."""
    check_topics(settings.kafka)
    publisher = Publisher(settings.kafka, SERVICE)
    orders = Publisher(settings.kafka, SERVICE, WORK_LINGER_MS)
    stack.callback(close, publisher, orders)
    database = stack.enter_context(closing(Database(settings.database, SERVICE)))
    metrics = Metrics(SERVICE)
    instruments = Instruments(metrics)
    metrics.add(OperationCollector(OPERATIONS))
    metrics.add(SystemCollector(System()))
    metrics.add(PoolCollector(database.pool))

    def thread() -> DatabaseThread:
        return stack.enter_context(closing(DatabaseThread(database)))

    # Threads of their own: neither a slow admission nor the reaper keeps a lease waiting.
    dispatch = Dispatch(thread(), publisher, orders, instruments, settings.lease_s)
    quotas = Quotas(thread(), settings.queue_jobs, settings.tenant_jobs, instruments)
    intake = Intake(thread(), publisher, instruments, quotas, dispatch)
    requests = stack.enter_context(closing(KafkaRequestLog(settings.kafka)))
    reconciler = Reconciler(thread(), requests, intake.admit, instruments)
    keeper = thread()
    days = settings.samples_days
    history = stack.enter_context(closing(History(database, days, instruments))) if days else None
    bridge = Bridge(instruments, history)
    page = stack.enter_context(closing(MetricsPage(bridge, settings.metrics_host, settings.metrics_port)))
    stack.enter_context(closing(MetricsReporter(metrics, publisher, settings.metrics_interval_s)))

    results = stack.enter_context(closing(TransactionalLog(settings.kafka, RELAY, topics.RESULTS.name)))
    relay = Relay(thread(), results, instruments)

    async def heartbeats(chunk: Chunk) -> None:
        await dispatch.heartbeats(chunk)
        # A worker sends one soon after it has stored results.
        relay.wake()

    def left(jobs: Sequence[tuple[str, str]]) -> None:
        dispatch.forget(jobs)
        # Most of them have ended.
        relay.wake()

    control = Control(thread(), publisher, instruments, quotas, left)
    app = create_app(settings.kafka)
    for kind, topic in topics.REQUESTS.items():
        bind(app, topic, partial(intake.admit, kind), AT_ONCE)
    bind(app, topics.CONTROL, control.apply)
    bind(app, topics.WORKERS, heartbeats)
    bind(app, topics.METRICS, bridge.events)
    follow_partitions(app, dispatch, (relay, reconciler), bridge)
    interpreter.settle()
    log.info("Metrics are at http://%s:%d/metrics.", settings.metrics_host, page.port)
    return await serve(
        app,
        settings,
        dispatch,
        [
            dispatch.run(),
            Reaper(keeper, publisher, instruments).run(settings.lease_s),
            Retelling(keeper, orders, instruments, settings.lease_s).run(),
            relay.run(),
            reconciler.run(settings.reconcile_s),
            quotas.run(),
            control.run(),
        ],
    )


def close(*publishers: Publisher) -> None:
    """Send what waits, as far as that is done in ``FLUSH_S`` for all of them."""
    until_s = time.monotonic() + FLUSH_S
    for publisher in publishers:
        publisher.close(max(0.0, until_s - time.monotonic()))


def check_topics(bootstrap: str) -> None:
    """Raise ServerUnreachable or TopicsMissing: Faust would tell either in many words, or wait for ever."""
    if missing := TopicAdmin(bootstrap).missing():
        raise TopicsMissing([topic.name for topic in missing])


def follow_partitions(
    app: Dispatcher, dispatch: Dispatch, followers: Sequence[Relay | Reconciler], bridge: Bridge
) -> None:
    """Dispatch, with what goes with it, and serve metrics while the partition of each is this process' own."""

    async def revoked(*_given: Any, **_options: Any) -> None:
        dispatch.pause()
        for follower in followers:
            follower.assign(owner=False)

    async def assigned(*given: Any, **_options: Any) -> None:
        partitions: set[TP] = given[1]
        dispatches = HEARTBEATS in partitions
        log.info("I read %d partitions%s.", len(partitions), " and dispatch" if dispatches else "")
        if METRICS not in partitions:
            bridge.clear()
        for follower in followers:
            follower.assign(owner=dispatches)
        dispatch.assign((await app.consumer.highwaters(HEARTBEATS))[HEARTBEATS] if dispatches else None)

    app.on_partitions_revoked.connect(revoked)
    app.on_partitions_assigned.connect(assigned)


async def serve(
    app: Dispatcher, settings: Settings, dispatch: Dispatch, loops: Sequence[Coroutine[None, None, None]]
) -> int:
    """Run the app and the loops beside it until the first of them ends, or a signal comes."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    told = asyncio.create_task(stop.wait())
    tasks = [asyncio.create_task(loop) for loop in (*loops, lead(app, settings, dispatch))]
    done, _ = await asyncio.wait([told, *tasks], return_when=asyncio.FIRST_COMPLETED)
    for task in done - {told}:
        log.critical("The dispatcher ends by an error.", exc_info=task.exception() or app.crash_reason)
    for task in tasks:
        task.cancel()
    try:
        await asyncio.wait_for(app.stop(), STOP_S)
    except TimeoutError:
        log.warning("The consumers did not stop within %g s; what they were at is read again.", STOP_S)
    if not await dispatch.underway.finished():
        log.warning("Postgres did not answer within %g s; leases that it has taken run out.", FINISH_S)
    return 0 if done == {told} else 1


async def lead(app: Dispatcher, settings: Settings, dispatch: Dispatch) -> None:
    """Start the app, say when this process does its work, and return when the app has crashed."""
    await app.start()
    await dispatch.ready.wait()
    settings.ready()
    log.info("Ready.")
    await app.wait_until_stopped()


def main() -> int:
    """Exit status 0 after a signal, 1 after an error, 2 for a setting that is not valid."""
    configure()
    interpreter.share_memory()
    interpreter.tell_when_asked()
    try:
        settings = Settings.from_env(os.environ)
        with ExitStack() as stack:
            return asyncio.run(run(settings, stack))
    except HeadraceError as error:
        log.critical("%s", error)
        return 2 if isinstance(error, InvalidSetting) else 1
    except Exception:
        # Left to Python it would wait for threads that wait for a server.
        log.critical("The dispatcher ends by an error.", exc_info=True)
        return 1


if __name__ == "__main__":
    status = main()
    logging.shutdown()
    # Python would wait for threads that wait for a server which may never answer.
    os._exit(status)
