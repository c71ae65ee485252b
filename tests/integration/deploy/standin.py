"""Supervise small stand-ins for the servers and processes: ``python -m tests.integration.deploy.standin DIR NAME...``.

The stand-ins are named for what they do; see ``PROGRAMS``.
"""

import asyncio
import logging
import sys
from pathlib import Path

from deploy.local.foreground import supervise
from deploy.local.paths import StackPaths
from deploy.local.processes import exists
from deploy.local.service import Command, Service
from deploy.local.stack import Stack, Stage
from deploy.local.supervisor import Supervisor

OBEDIENT = """
def leave(number, frame):
    with open(f"{directory}/order", "a") as order:
        order.write(f"{name}\\n")
    sys.exit(0)

signal.signal(signal.SIGTERM, leave)
ready()
"""

PROGRAMS = {
    "server": OBEDIENT,
    "dispatcher": OBEDIENT,
    "worker": OBEDIENT,
    "stubborn": "signal.signal(signal.SIGTERM, signal.SIG_IGN); ready()",
    "broken": "print('no such luck'); sys.exit(3)",
    "never": "print('still thinking', flush=True)",
    "parent": "subprocess.Popen(('sleep', '1000'), start_new_session=True); ready()",
}

RANKS = {"dispatcher": 1, "worker": 2}

PRELUDE = """
import pathlib, signal, subprocess, sys
directory, name = sys.argv[1:]
def ready():
    pathlib.Path(directory, "ready", name).touch()
"""


def stand_in(name: str, directory: Path) -> Service:
    """Describe the stand-in ``name``; it waits for a signal once it is ready."""
    program = f"{PRELUDE}\n{PROGRAMS[name]}\nwhile True: signal.pause()"
    return Service(
        name=name,
        command=Command((sys.executable, "-c", program, str(directory), name)),
        is_healthy=lambda: exists(directory / "ready" / name),
        stop_rank=RANKS.get(name, 0),
        start_s=2.0 if name == "never" else 60.0,
        stop_s=0.5,
    )


def main() -> None:
    """Supervise until a signal; the exit code is the supervisor's."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    directory, names = Path(sys.argv[1]), sys.argv[2:]
    stack = Stack((Stage({}, tuple(stand_in(name, directory) for name in names)),), {"HEADRACE_KAFKA": "nowhere"})
    sys.exit(asyncio.run(supervise(Supervisor(StackPaths(directory), lambda: stack), None)))


if __name__ == "__main__":
    main()
