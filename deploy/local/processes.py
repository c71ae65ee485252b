"""Headrace's own processes, and what must be done between the servers' start and theirs."""

import sys
from collections.abc import Mapping
from pathlib import Path

from deploy.local.paths import ROOT, StackPaths
from deploy.local.service import Command, Service

#: Importing torch takes seconds, and minutes where a busy machine does it for all the workers at once. A
#: process that fails ends, and is not waited for.
START_S = 300.0

#: Workers end before the dispatcher, and both before the servers (rank 0).
DISPATCHER_RANK = 1
WORKER_RANK = 2


def steps() -> Mapping[str, Command]:
    """What every start runs once the servers are healthy; each step is harmless when repeated."""
    return {
        "topics": python("producers", "topics", "create"),
        "tables": python("runtime.database", "upgrade"),
    }


def dispatcher(paths: StackPaths, metrics_port: int) -> Service:
    """Describe the Faust application, which serves the platform's metrics on ``metrics_port``."""
    own = {"HEADRACE_METRICS_PORT": str(metrics_port)}
    return process("dispatcher", "streams", paths, own, DISPATCHER_RANK)


def worker(number: int, paths: StackPaths) -> Service:
    """Describe one worker, with a disk cache of its own: it shares models through Redis alone."""
    name = f"worker-{number}"
    # One thread each: workers that fight over cores take several times as long.
    own = {"HEADRACE_CACHE_DIR": str(paths.cache / name), "OMP_NUM_THREADS": "1"}
    return process(name, "workers", paths, own, WORKER_RANK)


def process(name: str, module: str, paths: StackPaths, own: Mapping[str, str], stop_rank: int) -> Service:
    """Describe ``python -m module``, which is healthy once it has written its ready file."""
    ready_file = paths.ready / name
    environment = {
        "HEADRACE_STORE": paths.store.as_uri(),
        "HEADRACE_READY_FILE": str(ready_file),
        "PYTHONUNBUFFERED": "1",
        **own,
    }
    return Service(
        name=name,
        command=python(module, environment=environment),
        is_healthy=lambda: exists(ready_file),
        stop_rank=stop_rank,
        start_s=START_S,
    )


def python(module: str, *arguments: str, environment: Mapping[str, str] | None = None) -> Command:
    """A module of the checkout, run by our own interpreter from the checkout's root."""
    return Command((sys.executable, "-m", module, *arguments), environment or {}, cwd=ROOT)


async def exists(path: Path) -> bool:
    """Whether ``path`` exists."""
    return path.exists()
