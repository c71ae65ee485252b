"""The parent's side of one child process: start it, give it a task, hear of it, and end it."""

import contextlib
import multiprocessing
import os
import select
import signal
import threading
from multiprocessing import resource_tracker
from typing import Any, Final

import msgspec

from runtime.tasks import child, wire
from runtime.tasks.life import Call, Life
from runtime.tasks.status import Reason

#: Started afresh, never forked: a fork has the parent's locks, librdkafka's and CUDA's, in whatever state they are.
_SPAWN: Final = multiprocessing.get_context("spawn")
#: Importing a large library on a busy machine takes half a minute; who takes longer has a fault.
START_S: Final = 120.0
#: What an idle child has to leave by itself.
LEAVE_S: Final = 2.0
#: multiprocessing looks at all children of a process as it starts one, and two threads that wait for the same child
#: lose its exit code.
_STARTING: Final = threading.Lock()
#: A child inherits what the thread that starts it blocks, and lets it through once it is prepared for it.
_LATER: Final = {signal.SIGINT, signal.SIGTERM}


class ChildDied(Exception):
    """The process has ended, or does not start."""


class Spawned:
    """A child process. One thread, its owner, calls all but ``tell`` and ``kill``: those may come from any."""

    def __init__(self) -> None:
        self._connection, theirs = _SPAWN.Pipe()
        # What a task's parent says while it runs has a socket of its own: the child's main thread then reads its tasks
        # itself, and no thread has to hand them over.
        listening, self._control = _SPAWN.Pipe(duplex=False)
        self._lock = threading.Lock()
        self._task: Life[Any] | None = None
        self._number = 0
        self._doomed = False
        self._process = _SPAWN.Process(target=child.main, args=(theirs, listening, os.getpid()), name="headrace-task")
        with _STARTING:
            # It would lift the block below, the first time.
            resource_tracker.ensure_running()
            before = signal.pthread_sigmask(signal.SIG_BLOCK, _LATER)
            try:
                self._process.start()
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
        # Theirs alone now: the sockets end when the child does.
        theirs.close()
        listening.close()
        self.pid: int = self._process.pid or 0
        self._poll = select.poll()
        self._poll.register(self._connection, select.POLLIN)
        self._pidfd = _pidfd(self.pid)
        if self._pidfd is not None:
            self._poll.register(self._pidfd, select.POLLIN)

    def wait_ready(self) -> None:
        """Wait until the child takes tasks.

        Raises:
            ChildDied: it ended instead, or took too long.
        """
        if self.receive(START_S) != wire.READY:
            raise ChildDied

    @property
    def alive(self) -> bool:
        """Whether an idle child is there: it has ended, or is about to, if it has anything to say."""
        return not self._poll.poll(0)

    def order(self, task: Life[Any], call: Call) -> bytes:
        """The next task as the child reads it.

        Raises:
            Exception: whatever pickle raises for what it can't take.
        """
        return wire.order(self._number + 1, str(task), call)

    def send(self, task: Life[Any], frame: bytes) -> None:
        """Give the child its next task.

        Raises:
            ChildDied: it ended in this moment.
        """
        with self._lock:
            self._task, self._number = task, self._number + 1
        try:
            self._connection.send_bytes(frame)
        except OSError as error:
            raise ChildDied from error

    def receive(self, timeout_s: float | None = None) -> bytes:
        """The child's next frame.

        Raises:
            ChildDied: it has ended, or says nothing in time.
        """
        # Not the socket alone: a process that the task has forked may hold that open, and the child be dead.
        ready = self._poll.poll(None if timeout_s is None else timeout_s * 1_000)
        if not any(fd == self._connection.fileno() for fd, _ in ready):
            raise ChildDied
        try:
            return self._connection.recv_bytes()
        except (EOFError, OSError) as error:
            raise ChildDied from error

    def done(self) -> bool:
        """The task is over: from now on nobody ends the child for its sake. False if somebody has."""
        with self._lock:
            self._task = None
            return not self._doomed

    def tell(self, task: Life[Any], reason: Reason) -> None:
        """Tell the child that its task shall stop."""
        with self._lock:
            if self._task is task:
                with contextlib.suppress(OSError):
                    self._control.send_bytes(msgspec.msgpack.encode(wire.Stop(self._number, reason)))

    def kill(self, task: Life[Any], with_signal: signal.Signals) -> None:
        """Signal the child, if it still has this task."""
        with self._lock:
            if self._task is not task:
                return
            self._doomed = True
            with contextlib.suppress(ProcessLookupError):
                if self._pidfd is not None:
                    signal.pidfd_send_signal(self._pidfd, with_signal)
                else:
                    os.kill(self.pid, with_signal)

    def bury(self, leave_s: float = LEAVE_S) -> int | None:
        """See the process end, by force after ``leave_s``; its exit code, -N for signal N."""
        with self._lock:
            self._task = None
        with contextlib.suppress(OSError):
            self._connection.close()
            self._control.close()
        if self._pidfd is not None:
            ended = select.poll()
            ended.register(self._pidfd, select.POLLIN)
            ended.poll(leave_s * 1_000)
        with _STARTING:
            self._process.join(leave_s if self._pidfd is None else 0.0)
            if self._process.exitcode is None:
                self._process.kill()
                self._process.join()
            exit_code = self._process.exitcode
            # None where it has gone to somebody else, who waits for all children or ignores SIGCHLD.
            if exit_code is not None:
                self._process.close()
        if self._pidfd is not None:
            os.close(self._pidfd)
        return exit_code


def _pidfd(pid: int) -> int | None:
    """The process as a file that becomes readable when it ends; not every kernel has it (pidfd_open(2))."""
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None
