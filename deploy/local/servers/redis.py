"""Redis, as a cache and nothing else: what it loses, the platform makes again."""

import asyncio
from pathlib import Path

from deploy.local.ports import LOOPBACK
from deploy.local.service import Command, Service

#: Models and adapters are the largest thing in it; the least recently used go first.
MAX_MEMORY = "512mb"


def redis(directory: Path, port: int) -> Service:
    """Describe a Redis that writes nothing to disk."""
    directory.mkdir(parents=True, exist_ok=True)
    settings = {
        "bind": LOOPBACK,
        "port": str(port),
        "dir": str(directory),
        "daemonize": "no",
        "save": "",
        "appendonly": "no",
        "maxmemory": MAX_MEMORY,
        "maxmemory-policy": "allkeys-lru",
    }
    arguments = [part for name, value in settings.items() for part in (f"--{name}", value)]
    return Service(
        name="redis",
        command=Command(("redis-server", *arguments)),
        is_healthy=lambda: answers_ping(port),
        stop_s=5.0,
    )


async def answers_ping(port: int) -> bool:
    """Whether a Redis answers PING on ``port``."""
    try:
        reader, writer = await asyncio.open_connection(LOOPBACK, port)
    except OSError:
        return False
    try:
        writer.write(b"PING\r\n")
        return await reader.readline() == b"+PONG\r\n"
    except OSError:
        return False
    finally:
        writer.close()
