"""What the tests of tasks share: tasks that do what they are told, and a clock that is set."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Literal

from runtime.tasks import TaskContext, async_task

#: A test that waits for so long has failed.
PATIENCE_S = 10.0

Command = Literal["return", "raise", "check", "report"]


class Gate:
    """What a task does next, said by the test."""

    def __init__(self) -> None:
        self.started = threading.Event()
        #: Set when its thread has left it.
        self.left = threading.Event()
        self.commands: SimpleQueue[Command] = SimpleQueue()
        #: Filled when it has obeyed, and is still there.
        self.obeyed: SimpleQueue[Command] = SimpleQueue()

    def open(self) -> None:
        """Let the task return."""
        self.commands.put("return")


@async_task
def gated(ctx: TaskContext, gate: Gate) -> str:
    """Wait for commands; the result is "done"."""
    gate.started.set()
    try:
        while True:
            match command := gate.commands.get(timeout=PATIENCE_S):
                case "return":
                    return "done"
                case "raise":
                    raise ValueError("told to")
                case "check":
                    ctx.check()
                case "report":
                    ctx.progress(1, 2, "half")
            gate.obeyed.put(command)
    finally:
        gate.left.set()


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


@contextmanager
def opened(*gates: Gate) -> Iterator[None]:
    """However the test ends, the tasks do."""
    try:
        yield
    finally:
        for gate in gates:
            gate.open()
