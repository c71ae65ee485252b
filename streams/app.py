"""The Faust app: which agent reads which topic, and how. Tables, web server and Faust's producer are unused."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

import faust
from faust.app.base import BootStrategy
from faust.types import AppT, Message
from mode.supervisors import CrashingSupervisor

from runtime.settings import CODE_VERSION
from schemas.topics import Topic
from streams.backlog import Backlog, merged
from streams.chunks import Chunk
from streams.transport import ChunkedTransport

GROUP: Final = "headrace-dispatcher"
#: What is durable is committed so often; what lies in between is read again after a crash.
COMMIT_S: Final = 1.0
#: A process that was killed keeps its partitions for so long.
SESSION_S: Final = 10.0
HEARTBEAT_S: Final = 3.0
REQUEST_S: Final = 30.0

Handle = Callable[[Chunk], Awaitable[None]]


class Raw(faust.Schema[bytes, Chunk]):
    """Bytes as they came: what is not readable is for the agent to refuse, and never ends it."""

    def loads_key(self, app: AppT, message: Message, **_options: Any) -> Any:  # noqa: ARG002
        """The key's bytes."""
        return message.key

    def loads_value(self, app: AppT, message: Message, **_options: Any) -> Any:  # noqa: ARG002
        """The chunk."""
        return message.value


class WithoutProducer(BootStrategy):
    """Everything but Faust's producer and web server: events go out by ``runtime.kafka.Publisher``."""

    enable_kafka_producer = False
    enable_web = False


class Dispatcher(faust.App):
    """The app of one process; its partitions are shared with the other processes of the group."""

    BootStrategy = WithoutProducer

    def _new_transport(self) -> ChunkedTransport:
        return ChunkedTransport(self.conf.broker_consumer, self)

    def _create_directories(self) -> None:
        """Nothing is kept on disk."""


def create_app(bootstrap: str, group: str = GROUP) -> Dispatcher:
    """The app without agents; ``bootstrap`` is a comma-separated list of host:port."""
    return Dispatcher(
        group,
        broker=";".join(f"kafka://{address}" for address in bootstrap.split(",")),
        broker_client_id=f"headrace-{CODE_VERSION}",
        store="memory://",
        autodiscover=False,
        web_enabled=False,
        topic_disable_leader=True,
        topic_allow_declare=False,
        # No tables, so no standbys: Kafka's own round robin assigns the partitions.
        table_standby_replicas=0,
        # Exactly-once mode crashes on a rebalance (faust-streaming#323); ids make repeats harmless.
        processing_guarantee="at_least_once",
        broker_commit_interval=COMMIT_S,
        broker_session_timeout=SESSION_S,
        broker_heartbeat_interval=HEARTBEAT_S,
        broker_request_timeout=REQUEST_S,
        # A chunk in flight while partitions move is repeated by the next owner. Waiting for it would
        # hold every process of the group for as long as the database is away.
        stream_wait_empty=False,
    )


def bind(app: Dispatcher, topic: Topic, handle: Handle, at_once: int = 1) -> None:
    """Have ``handle`` called with the topic's records, with one chunk at a time, or so many: it then keeps their order.

    What comes while it works is its next chunk, whatever the partitions. A chunk's records are acknowledged when
    ``handle`` returns. An exception ends the process with them unacknowledged: Faust would acknowledge them and go
    on (faust-streaming#189).
    """

    async def agent(stream: Any) -> None:
        backlog = Backlog()

        async def work() -> None:
            while True:
                arrivals = await backlog.take()
                await handle(merged(arrivals))
                for arrival in arrivals:
                    arrival.ack()

        try:
            async with asyncio.TaskGroup() as group:
                working = [group.create_task(work()) for _ in range(at_once)]
                await backlog.fill(stream.noack().events())
                for task in working:
                    task.cancel()
        except ExceptionGroup as errors:
            # The first is the reason; the other tasks were cancelled by it.
            raise errors.exceptions[0] from None

    # With a concurrency above 1, offsets of work in flight are committed (faust-streaming#606).
    app.agent(
        app.topic(topic.name, schema=Raw(), allow_empty=True),
        name=topic.name,
        concurrency=1,
        supervisor_strategy=CrashingSupervisor,
    )(agent)
