"""The program of a child process: one task at a time, in its main thread, until its parent goes.

A child leaves with its parent in any case: the sockets end, and where the child is too busy to see that, the kernel
kills it. Ctrl-C in a terminal reaches children too; they ignore it, for the parent decides what becomes of them.
"""

import contextlib
import ctypes
import os
import signal
import sys
import threading
import time
from multiprocessing.connection import Connection
from types import FrameType
from typing import Final, NoReturn

import msgspec

from runtime.tasks import wire
from runtime.tasks.context import StopSignal, TaskContext
from runtime.tasks.errors import Failure, TaskStopped
from runtime.tasks.status import Progress

#: prctl(2): the signal that the kernel sends when the thread that started this process ends.
PR_SET_PDEATHSIG: Final = 1
#: What a shell reports of a program that SIGTERM ended.
TERMINATED: Final = 128 + signal.SIGTERM
#: How often a child whose sockets have ended looks for its parent.
PARENT_LOOK_S: Final = 0.05


class _Terminated(SystemExit):
    """SIGTERM came: ``finally`` blocks run, and the process ends."""


class Worker:
    """The child's side of the sockets."""

    def __init__(self, connection: Connection, control: Connection, parent_pid: int) -> None:
        self._connection = connection
        self._control = control
        self._parent_pid = parent_pid
        # A task may tell of its progress from threads of its own.
        self._sending = threading.Lock()
        self._lock = threading.Lock()
        self._number = 0
        self._signal: StopSignal | None = None
        #: The last that the parent said: it may come before the task that it is about.
        self._stop: wire.Stop | None = None

    def run(self) -> None:
        """Do what the parent says until it closes the sockets."""
        # A task's fork has no part in what its parent says, and must not hold the sockets open after its end.
        os.register_at_fork(after_in_child=self._connection.close)
        os.register_at_fork(after_in_child=self._control.close)
        threading.Thread(target=self._listen, name="task-control", daemon=True).start()
        self._connection.send_bytes(wire.READY)
        with contextlib.suppress(EOFError, ConnectionError):
            while True:
                self._serve(self._connection.recv_bytes())

    def _serve(self, frame: bytes) -> None:
        try:
            self._number, name, call = wire.read_order(frame)
            answer: bytes | memoryview = wire.result(call.run(lambda: self._context(name)))
        except _Terminated:
            raise
        except TaskStopped as error:
            # One that this task was not told of, of a task that it waited for, is a failure as any other.
            stopped = self._stop is not None and self._stop.number == self._number
            answer = wire.STOPPED if stopped else wire.struct_frame(wire.FAILURE, Failure.of(error))
        except BaseException as error:  # also SystemExit: a task that exits has failed, and its process goes on
            answer = wire.struct_frame(wire.FAILURE, Failure.of(error))
        with self._sending:
            self._signal = None
            self._connection.send_bytes(answer)

    def _context(self, name: str) -> TaskContext:
        with self._lock:
            signal = self._signal = StopSignal()
            if self._stop is not None and self._stop.number == self._number:
                signal.set(self._stop.reason)
        return TaskContext(name, lambda progress: self._report(progress, signal), signal)

    def _report(self, progress: Progress, signal: StopSignal) -> None:
        frame = wire.struct_frame(wire.PROGRESS, progress)
        with self._sending:
            # A thread that its task has left behind would be heard as the next one.
            if self._signal is signal:
                self._connection.send_bytes(frame)

    def _listen(self) -> None:
        decoder = msgspec.msgpack.Decoder(wire.Stop)
        with contextlib.suppress(EOFError, OSError):
            while True:
                self._tell(decoder.decode(self._control.recv_bytes()))
        # Either a goodbye, and the main thread leaves by itself, or the parent has gone. Its sockets end a moment
        # before it is seen to be gone.
        while os.getppid() == self._parent_pid:
            time.sleep(PARENT_LOOK_S)
        os._exit(TERMINATED)

    def _tell(self, stop: wire.Stop) -> None:
        with self._lock:
            self._stop = stop
            if stop.number == self._number and self._signal is not None:
                self._signal.set(stop.reason)


def main(connection: Connection, control: Connection, parent_pid: int) -> None:
    """The life of a child."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _terminate)
    # The parent blocks them while it starts a child, so that neither comes before these lines.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
    _die_with(parent_pid)
    Worker(connection, control, parent_pid).run()


def _terminate(_signal: int, _frame: FrameType | None) -> NoReturn:
    # Once: the ``finally`` blocks that it starts are not to be interrupted by another.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise _Terminated(TERMINATED)


def _die_with(parent_pid: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent_pid:
        # It had gone before the kernel was asked.
        os._exit(TERMINATED)
