"""What the tests let child processes do: functions that can be found by their names."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import NoReturn

from runtime.tasks import TaskContext, async_task

#: Nobody waits so long.
FOREVER_S = 600.0


@async_task(use_process=True)
def double(number: int) -> int:
    return 2 * number


@async_task(use_process=True)
def pid() -> int:
    return os.getpid()


@async_task(use_process=True)
def count(ctx: TaskContext, to: int, pipe: str) -> int:
    """Tell of each number, and wait at the last one until somebody opens the pipe."""
    for number in range(1, to + 1):
        ctx.progress(number, to, f"number {number}")
    Path(pipe).read_text(encoding="utf-8")
    return to


@async_task(use_process=True)
def hold(ctx: TaskContext, pipe: str) -> str:
    """Begin, and end when somebody writes into the pipe; what was written."""
    ctx.progress(os.getpid())
    return Path(pipe).read_text(encoding="utf-8")


@async_task(use_process=True)
def obey(ctx: TaskContext) -> None:
    """Stop when told to."""
    ctx.progress(os.getpid())
    ctx.wait(FOREVER_S)
    ctx.check()


@async_task(use_process=True)
def tidy(ctx: TaskContext, trace: str) -> None:
    """Never look at the context, but leave in order."""
    try:
        ctx.progress(os.getpid())
        time.sleep(FOREVER_S)
    finally:
        Path(trace).write_text("left in order", encoding="utf-8")


@async_task(use_process=True)
def answer_sigterm(ctx: TaskContext) -> int:
    """Take SIGTERM for a request to come to an end."""
    asked = threading.Event()
    signal.signal(signal.SIGTERM, lambda _signal, _frame: asked.set())
    ctx.progress(os.getpid())
    asked.wait(FOREVER_S)
    return os.getpid()


@async_task(use_process=True)
def stubborn(ctx: TaskContext) -> NoReturn:
    """Neither look at the context nor hear SIGTERM."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    ctx.progress(os.getpid())
    while True:
        time.sleep(FOREVER_S)


@async_task(use_process=True)
def deaf(ctx: TaskContext) -> None:
    """Keep the interpreter's lock: no thread of the process sees that its parent has gone."""
    ctx.progress(os.getpid())
    sum(range(10**12))


@async_task(use_process=True)
def leave(status: int) -> NoReturn:
    os._exit(status)


@async_task(use_process=True)
def die(with_signal: int) -> None:
    os.kill(os.getpid(), with_signal)
    time.sleep(FOREVER_S)


class Particular(Exception):
    """An exception that can't be unpickled: its ``__init__`` wants two values."""

    def __init__(self, left: int, right: int) -> None:
        super().__init__(f"{left} is not {right}")


@async_task(use_process=True)
def raise_particular() -> NoReturn:
    raise Particular(1, 2)


@async_task(use_process=True)
def miss(ctx: TaskContext, path: str) -> NoReturn:
    """Say the name of a file, and that it is not there."""
    ctx.progress(1, message=path)
    raise FileNotFoundError(path)


@async_task(use_process=True)
def exits() -> NoReturn:
    sys.exit(3)


@async_task(use_process=True)
def returns_a_lambda() -> object:
    return lambda: None


class Exits:
    """A value that ends whoever unpickles it, as a module without a guard does."""

    def __reduce__(self) -> tuple[object, tuple[int]]:
        return sys.exit, (3,)


@async_task(use_process=True)
def returns_an_exit() -> Exits:
    return Exits()


@async_task(use_process=True)
def leave_a_thread(ctx: TaskContext) -> int:
    """Leave a thread behind that goes on telling."""
    told = threading.Event()

    def tell() -> None:
        while True:
            ctx.progress(-1.0)
            told.set()

    threading.Thread(target=tell, daemon=True).start()
    told.wait(FOREVER_S)
    return os.getpid()


@async_task(use_process=True)
def tell_from_a_fork(ctx: TaskContext) -> int:
    """The status of a fork that tells something."""
    if (fork := os.fork()) == 0:
        try:
            ctx.progress(-1.0)
        finally:
            os._exit(0)
    return os.waitpid(fork, 0)[1]


@async_task(use_process=True)
def size_of(data: bytes) -> bytes:
    return data + b"!"


@async_task(use_process=True)
def die_with_a_child_that_lives_on(ctx: TaskContext) -> None:
    """A fork inherits the sockets of its parent, and holds them open after its end."""
    fork = multiprocessing.get_context("fork").Process(target=time.sleep, args=(FOREVER_S,))
    fork.start()
    ctx.progress(fork.pid or 0)
    os.kill(os.getpid(), signal.SIGKILL)


@async_task(use_process=True)
def start_a_program() -> str:
    """Children of children are allowed."""
    done = subprocess.run([sys.executable, "-c", "print('hello', end='')"], check=True, capture_output=True, text=True)
    return done.stdout
