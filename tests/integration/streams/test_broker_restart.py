"""A broker that is killed and started again, with a stack of the test's own."""

import asyncio
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from deploy.local.stack import Plan
from deploy.local.state import StackState
from deploy.local.temporary import temporary_stack
from runtime.topic_admin import TopicAdmin
from schemas.errors import ServerUnreachable
from schemas.topics import HOUR_MS, Topic
from streams.chunks import Chunk
from tests.integration.streams.observing import lag, until
from tests.integration.streams.test_transport import reading, until_true, write

TOPIC = Topic("headrace.test.restart", "any", 3, HOUR_MS)


@pytest.mark.skipif(shutil.which("java") is None, reason="needs a Kafka that it may kill, and so Java")
def test_every_partition_is_read_on_after_the_broker_was_killed_and_started_again() -> None:
    """faust-streaming#629, #532: a partition stops being fetched after a broker outage."""
    seen: set[tuple[int, int]] = set()

    async def keep(chunk: Chunk) -> None:
        seen.update((record.partition, record.offset) for record in chunk.records)

    async def run(state: StackState, kafka: str) -> None:
        # The second broker outlives the app, which could not leave its group otherwise.
        with ExitStack() as stack:
            async with reading(kafka, TOPIC, keep) as app:
                await until_true(lambda: len(seen) == 300)
                await asyncio.to_thread(stack.enter_context, restarted(state, kafka))
                await asyncio.to_thread(write_everywhere, kafka)
                await until_true(lambda: len(seen) == 600)
                await app.consumer.commit()
                assert await asyncio.to_thread(lag, kafka, TOPIC.name, TOPIC.name) == 0

    with tempfile.TemporaryDirectory(prefix="headrace-restart-") as directory:
        plan = Plan(Path(directory) / "stack", servers_only=True, durable=False)
        with temporary_stack(plan) as state:
            kafka = state.environment["HEADRACE_KAFKA"]
            TopicAdmin(kafka).create_missing([TOPIC])
            write_everywhere(kafka)
            asyncio.run(run(state, kafka))


def write_everywhere(kafka: str) -> None:
    for partition in range(TOPIC.partitions):
        write(kafka, TOPIC, 100, partition)


@contextmanager
def restarted(state: StackState, kafka: str) -> Iterator[None]:
    """Kill the stack's broker, run another one on its data, and end that after the block."""
    (pid,) = [service.pid for service in state.services if service.name == "kafka" and service.pid]
    command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:-1]
    subprocess.run(["kill", "-KILL", str(pid)], check=True)
    assert not until(lambda: answers(kafka), lambda there: not there)
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as broker:
        try:
            assert until(lambda: answers(kafka), lambda there: there)
            yield
        finally:
            broker.terminate()


def answers(kafka: str) -> bool:
    """Whether the broker is there."""
    try:
        TopicAdmin(kafka, timeout_s=1.0).missing([TOPIC])
    except ServerUnreachable:
        return False
    return True
