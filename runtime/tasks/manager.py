"""Submit, track, cancel and wait: one manager a process, opened by whoever starts it and passed down."""

import asyncio
import atexit
import itertools
import os
import secrets
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Final, ParamSpec, Self, TypeVar

from msgspec import Struct

from runtime.tasks.background import Background
from runtime.tasks.errors import QueueFull, TasksClosed
from runtime.tasks.functions import Options, TaskFunction
from runtime.tasks.ledger import Board, Counts, Ledger, wait_all
from runtime.tasks.life import Call
from runtime.tasks.pool import Pool
from runtime.tasks.processes import ProcessRunner
from runtime.tasks.queue import TaskQueue
from runtime.tasks.status import TaskStatus
from runtime.tasks.task import Task
from runtime.tasks.threads import ThreadRunner
from runtime.tasks.timers import Timers

P = ParamSpec("P")
R = TypeVar("R")

#: What close gives to tasks before it stops them.
DRAIN_S: Final = 10.0
#: What threads have to leave: they are at rest, or will not come back.
LEAVE_S: Final = 1.0
#: From a process' SIGKILL, or a goodbye to it, to its end.
BURIAL_S: Final = 5.0
CLOSED: Final = "the manager is closed."
_PLAIN: Final = Options()


class Limits(Struct, frozen=True, kw_only=True):
    """How much a manager does at once, and how much it keeps."""

    threads: int = min(32, (os.cpu_count() or 1) + 4)
    processes: int = os.cpu_count() or 1
    #: Tasks that may wait for a thread, and for a process; one more waits with its submitter, or is refused.
    queued: int = 1_000
    #: How long an ended task and its result are kept, and how many of them.
    keep_s: float = 300.0
    keep: int = 1_000
    #: What a task has to stop once it was told. A process has it again after SIGTERM.
    grace_s: float = 5.0

    def __post_init__(self) -> None:
        for name in ("threads", "processes", "queued"):
            if (value := getattr(self, name)) < 1:
                raise ValueError(f"{name} is {value}; at least 1 is needed, or tasks would never start")


class TaskManager:
    """Runs functions in threads and spawned processes. Thread-safe; nothing starts before the first task.

    ``board`` shows the tasks to other processes; the manager closes it, and ``timers``, which tests pass.
    """

    def __init__(
        self,
        limits: Limits | None = None,
        board: Board | None = None,
        timers: Timers | None = None,
    ) -> None:
        self._limits = limits = limits or Limits()
        self._board = board
        self._name = f"task-{secrets.token_hex(4)}"
        self._numbers = itertools.count(1)
        self._pid = os.getpid()
        self._timers = Timers() if timers is None else timers
        self._ledger = Ledger(self._timers, limits.keep_s, limits.keep, board)
        self._threads = ThreadRunner(self._timers, limits.grace_s)
        processes = ProcessRunner(self._timers, limits.grace_s)
        self._thread_pool = Pool(TaskQueue("threads", limits.queued), limits.threads, self._threads.work)
        self._process_pool = Pool(TaskQueue("processes", limits.queued), limits.processes, processes.work)
        self._pools = [self._thread_pool, self._process_pool]
        self._closing = False
        self._closed = False
        # One that nobody closes must not keep the interpreter from ending, nor leave children.
        atexit.register(self._close_at_exit)

    # Submitting

    def submit(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Task[R]:
        """Queue a call. A function without ``@async_task`` runs in a thread, and gets no context.

        A full queue keeps the caller waiting, or is an error: see ``Options``.

        Raises:
            QueueFull: too many tasks wait (retryable).
            TasksClosed: the manager takes no more.
        """
        task, pool, options = self._new(function, args, kwargs)
        return self.put(task, pool, options)

    async def submit_async(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Task[R]:
        """As ``submit``, and does not block the loop while it waits for a place in the queue."""
        task, pool, options = self._new(function, args, kwargs)
        return await self.put_async(task, pool, options)

    def background(self, name: str, *, threads: int = 1, queued: int = 1_000) -> Background:
        """A queue of its own for what nobody waits for; with one thread it keeps the order.

        Raises:
            TasksClosed: the manager takes no more.
        """
        self._check_open()
        if self._closing:
            raise TasksClosed(CLOSED)
        pool = Pool(TaskQueue(name, queued), threads, self._threads.work)
        self._pools.append(pool)
        return Background(self, pool)

    # Tracking

    def get(self, task_id: str) -> Task[Any]:
        """The task of this id.

        Raises:
            TaskNotFound: there was none, or it is no longer kept.
        """
        return self._ledger.find(task_id)

    def cancel(self, task_id: str) -> bool:
        """As ``Task.cancel``.

        Raises:
            TaskNotFound: there was none, or it is no longer kept.
        """
        return self._ledger.find(task_id).cancel()

    def statuses(self) -> list[TaskStatus]:
        """Those that have not ended, then those that have and are kept."""
        return [task.status() for task in (*self._ledger.open_tasks(), *self._ledger.kept_tasks())]

    def counts(self) -> Counts:
        """How many tasks there are, and were."""
        return self._ledger.counts()

    def queued(self) -> dict[str, int]:
        """How many tasks wait, by queue."""
        return {pool.queue.name: len(pool.queue) for pool in self._pools}

    def wait(self, tasks: Iterable[Task[Any]] | None = None, timeout_s: float | None = None) -> bool:
        """Wait until these tasks have ended, or all there are; false if they have not in time."""
        if tasks is None:
            return self._ledger.wait_idle(timeout_s)
        return wait_all(list(tasks), timeout_s)

    # Ending

    def close(self, drain_s: float = DRAIN_S) -> None:
        """Take no more, let what was taken be done within ``drain_s``, and stop what is left.

        Idempotent, and one that was interrupted, or takes too long, may be called again with less time.

        1. Submissions are refused, those that wait for a place as well.
        2. Queued and running tasks go on, background queues among them.
        3. What is left is cancelled: queued tasks never start, running ones have their grace.
        4. Threads and processes end. A thread that does not come back from its task is left alone.
        """
        if self.foreign:
            return  # a fork's copy: threads and children are its parent's
        self._closing = True
        for pool in self._pools:
            pool.queue.refuse(CLOSED)
        if self._closed:
            return
        self._ledger.wait_idle(drain_s)
        for pool in self._pools:
            pool.queue.end()
        # The last ones first: one that runs and stops at once would make room for the next.
        for task in reversed(self._ledger.open_tasks()):
            task.cancel()
        self._ledger.wait_idle(2 * self._limits.grace_s + BURIAL_S)
        for pool in self._pools:
            pool.close(BURIAL_S if pool is self._process_pool else LEAVE_S)
        self._timers.close()
        if self._board is not None:
            self._board.close()
        self._closed = True
        atexit.unregister(self._close_at_exit)

    async def close_async(self, drain_s: float = DRAIN_S) -> None:
        """As ``close``, without blocking the loop."""
        await asyncio.to_thread(self.close, drain_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Who leaves by an exception does not want what it has begun.
        self.close(DRAIN_S if kind is None else 0.0)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close_async(DRAIN_S if kind is None else 0.0)

    @property
    def foreign(self) -> bool:
        """Whether this is a fork's copy, without threads and children."""
        return self._pid != os.getpid()

    # For background queues

    def new(self, call: Call, pool: Pool, options: Options, *, kept: bool) -> Task[Any]:
        """A task that is not queued yet."""
        self._check_open()
        task: Task[Any] = Task(
            f"{self._name}-{next(self._numbers)}", call, options, self._ledger, pool.queue, kept=kept
        )
        if options.deadline_s is not None:
            task.timer = self._timers.after(options.deadline_s, lambda: _expire(task))
        self._ledger.begun(task)
        return task

    def put(self, task: Task[Any], pool: Pool, options: Options) -> Task[Any]:
        """Queue it, as the options say."""
        queue = pool.queue
        try:
            if not queue.offer(task):
                if options.when_full == "raise":
                    raise QueueFull(queue.name, queue.capacity, 0.0)
                queue.put(task, _patience_s(options))
        except BaseException:
            self._ledger.withdrawn(task)
            raise
        pool.grow()
        return task

    async def put_async(self, task: Task[Any], pool: Pool, options: Options) -> Task[Any]:
        """Queue it, as the options say, without blocking the loop."""
        queue = pool.queue
        try:
            if not queue.offer(task):
                if options.when_full == "raise":
                    raise QueueFull(queue.name, queue.capacity, 0.0)
                await queue.put_in_loop(task, _patience_s(options))
        except BaseException:
            self._ledger.withdrawn(task)
            raise
        pool.grow()
        return task

    def _new(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Task[Any], Pool, Options]:
        options = function.defaults if isinstance(function, TaskFunction) else _PLAIN
        pool = self._process_pool if options.use_process else self._thread_pool
        return self.new(Call(function, args, kwargs), pool, options, kept=True), pool, options

    def _close_at_exit(self) -> None:
        # Who interrupted ``close`` does not want to wait, and multiprocessing would wait for the children's tasks.
        self.close(0.0 if self._closing else DRAIN_S)

    def _check_open(self) -> None:
        if self.foreign:
            raise TasksClosed(
                f"the manager was opened by process {self._pid}, and this one is its fork. Open one here."
            )


def _expire(task: Task[Any]) -> None:
    task.stop("expired")


def _patience_s(options: Options) -> float | None:
    """How long a submission waits for a place: not beyond the task's deadline."""
    limits_s = [limit_s for limit_s in (options.wait_s, options.deadline_s) if limit_s is not None]
    return min(limits_s, default=None)
