"""Faults of the servers' own making: backends that end, a cache that lies, disks that refuse to sync."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing, suppress
from typing import Final

import psutil
import psycopg2
import redis
from confluent_kafka import Consumer, KafkaException, TopicPartition

from schemas.topics import REQUESTS

DISPATCHERS_GROUP: Final = "headrace-dispatcher"
TIMEOUT_S: Final = 5
#: What Postgres and Kafka call to have their bytes on the disk.
SYNCING: Final = "fsync,fdatasync,sync_file_range"


def kill_backend(dsn: str) -> None:
    """SIGKILL one backend that works for Headrace: Postgres then restarts all of them, and recovers."""
    with closing(psycopg2.connect(dsn, connect_timeout=TIMEOUT_S)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT pid FROM pg_stat_activity WHERE application_name <> '' AND pid <> pg_backend_pid()")
        pids = [pid for (pid,) in cursor]
    for pid in pids[:1]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def terminate_backends(dsn: str) -> None:
    """End every connection of Headrace."""
    with closing(psycopg2.connect(dsn, connect_timeout=TIMEOUT_S)) as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )


def flush_redis(url: str) -> None:
    """Empty it."""
    with redis.Redis.from_url(url, socket_timeout=TIMEOUT_S) as client, suppress(redis.RedisError):
        client.flushall()


def spoil_redis(url: str) -> None:
    """Replace every value by other bytes of the same length, and some by those of another type."""
    with redis.Redis.from_url(url, socket_timeout=TIMEOUT_S) as client, suppress(redis.RedisError):
        for number, key in enumerate(client.scan_iter()):
            kind = client.type(key)
            client.delete(key)
            if number % 3 == 0:
                client.lpush(key, b"no such type")
            else:
                client.set(key, os.urandom(64) if kind != b"string" else os.urandom(4_096))


def committed_offsets(bootstrap: str) -> Mapping[tuple[str, int], int]:
    """What the dispatchers have acknowledged; nothing where Kafka does not say."""
    partitions = [TopicPartition(topic.name, number) for topic in REQUESTS.values() for number in range(3)]
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": DISPATCHERS_GROUP, "log_level": 0})
    try:
        found = consumer.committed(partitions, TIMEOUT_S)
    except KafkaException:
        return {}
    finally:
        consumer.close()
    return {(place.topic, place.partition): place.offset for place in found}


@asynccontextmanager
async def failing_fsync(processes: Sequence[psutil.Process]) -> AsyncIterator[None]:
    """Have every sync of these processes fail as on a broken disk."""
    pids = [part for process in processes for part in ("-p", str(process.pid))]
    injection = f"inject={SYNCING}:error=EIO"
    strace = await asyncio.create_subprocess_exec(
        "strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={SYNCING}", "-e", injection, *pids,
        stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield
    finally:
        # It detaches, and they go on; it is gone already where all of them are.
        with suppress(ProcessLookupError):
            strace.terminate()
        await strace.wait()
