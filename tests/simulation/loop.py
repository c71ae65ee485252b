"""A deterministic event loop: virtual time, no I/O, no threads, and processes that can be killed and frozen.

Every callback belongs to the process whose context it carries. Within a process callbacks run in
their order, as asyncio promises; which process goes next is drawn by the seed.
"""

import asyncio
import heapq
import random
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from typing import Any, Final, TypeVar, TypeVarTuple

#: Rounds of cancelling: a task that cleans up waits for those that it has cancelled itself.
DISPOSALS: Final = 5

Answer = TypeVar("Answer")
Arguments = TypeVarTuple("Arguments")

#: So many callbacks without the time going on are a loop that never ends.
BUSY_CALLBACKS: Final = 100_000


#: Whose callback runs.
PROCESS: Final["ContextVar[Process]"] = ContextVar("PROCESS")


class Process:
    """What shares a fate: its callbacks run, are held back, or are dropped, all of them."""

    def __init__(self, name: str, clock_skew_s: float = 0.0) -> None:
        self.name = name
        #: How far its clock on the wall is ahead; nothing of importance may depend on it.
        self.clock_skew_s = clock_skew_s
        self.alive = True
        self.frozen = False
        #: Callbacks that it still runs before it is killed, or frozen where ``stumbles`` says for how long.
        self.fuse: int | None = None
        self.stumbles_s: float | None = None
        self.ready: deque[SimHandle] = deque()
        #: Whether the loop knows that it has callbacks to run.
        self.listed = False
        #: What a callback is given to belong to it.
        self.context = Context()
        self.context.run(PROCESS.set, self)

    @property
    def runs(self) -> bool:
        """Whether its callbacks are run."""
        return self.alive and not self.frozen


class SimHandle:
    """A callback that waits, at once or for its time; as asyncio's Handle and TimerHandle."""

    __slots__ = ("_args", "_callback", "_cancelled", "_context", "_when", "process")

    def __init__(
        self, callback: Callable[..., object], args: tuple[Any, ...], context: Context | None, when: float = 0.0
    ) -> None:
        self._callback = callback
        self._args = args
        self._context = context or copy_context()
        self._when = when
        self._cancelled = False
        self.process = self._context[PROCESS]

    def cancel(self) -> None:
        self._cancelled = True

    def cancelled(self) -> bool:
        return self._cancelled

    def when(self) -> float:
        return self._when

    def run(self) -> None:
        """Call it in its context, unless it was cancelled."""
        if not self._cancelled:
            self._context.run(self._callback, *self._args)


class SimTask(asyncio.Task[Any]):
    """A task whose place in a set does not depend on where it lies in memory."""

    def __new__(cls, _coro: object, *, loop: "SimLoop", **_options: object) -> "SimTask":
        task = super().__new__(cls)
        task._number = loop.next_number()
        task.process = PROCESS.get()
        return task

    _number: int
    #: Whose task it is.
    process: Process

    def __hash__(self) -> int:
        return self._number


class SimLoop(asyncio.BaseEventLoop):
    """Runs callbacks until nothing is left to happen, or ``stop`` is called."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._now_s = 0.0
        self._number = 0
        self._timers: list[tuple[float, int, SimHandle]] = []
        self._runnable: list[Process] = []
        self._stopping = False
        self._disposed = False
        #: What the world does when a process has burnt its fuse.
        self.on_fuse: Callable[[Process], None] = lambda _process: None
        self.callbacks = 0

    def time(self) -> float:
        return self._now_s

    def next_number(self) -> int:
        """1, 2, 3 …"""
        self._number += 1
        return self._number

    def spawn(self, process: Process, coroutine: Coroutine[Any, Any, Answer]) -> "asyncio.Task[Answer]":
        """A task of the process."""
        return process.context.run(self.create_task, coroutine)

    def call_in(
        self, process: Process, delay_s: float, callback: Callable[[*Arguments], object], *args: *Arguments
    ) -> None:
        """Have the process call something after so long."""
        self.call_at(self._now_s + delay_s, callback, *args, context=process.context)

    def run(self, process: Process, coroutine: Coroutine[Any, Any, Answer]) -> Answer:
        """Run a task of the process to its end, and everything beside it."""
        events._set_running_loop(self)
        try:
            task = self.spawn(process, coroutine)
            task.add_done_callback(lambda _task: self.stop(), context=process.context)
            self.run_forever()
            return task.result()
        finally:
            events._set_running_loop(None)

    def run_forever(self) -> None:
        self._stopping = False
        idle_at = self.callbacks
        while not self._stopping:
            if self._runnable:
                self._run_one()
                if self.callbacks - idle_at > BUSY_CALLBACKS:
                    raise RuntimeError(f"Time stands still at {self._now_s:.3f} s: a loop that never waits.")
            elif self._timers:
                self._advance()
                idle_at = self.callbacks
            else:
                raise RuntimeError("Nothing is left to happen, and the simulation has not ended.")

    def stop(self) -> None:
        self._stopping = True

    def dispose(self) -> None:
        """Cancel whatever is left, dead processes' tasks too, so that no coroutine is found by the collector."""
        events._set_running_loop(self)
        try:
            for _ in range(DISPOSALS):
                for task in sorted(asyncio.all_tasks(self), key=hash):
                    assert isinstance(task, SimTask)
                    task.process.alive, task.process.fuse = True, None
                    self.resume(task.process)
                    task.cancel()
                while self._runnable:
                    self._run_one()
        finally:
            self._disposed = True
            events._set_running_loop(None)

    def resume(self, process: Process) -> None:
        """Run what was held back while the process was frozen."""
        process.frozen = False
        if process.ready:
            self._list(process)

    def call_soon(
        self, callback: Callable[[*Arguments], object], *args: *Arguments, context: Context | None = None
    ) -> Any:
        handle = SimHandle(callback, args, context)
        self._enqueue(handle)
        return handle

    def call_soon_threadsafe(
        self, callback: Callable[[*Arguments], object], *args: *Arguments, context: Context | None = None
    ) -> Any:
        return self.call_soon(callback, *args, context=context)

    def call_later(
        self, delay: float, callback: Callable[[*Arguments], object], *args: *Arguments, context: Context | None = None
    ) -> Any:
        return self.call_at(self._now_s + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[[*Arguments], object], *args: *Arguments, context: Context | None = None
    ) -> Any:
        handle = SimHandle(callback, args, context, when)
        heapq.heappush(self._timers, (when, self.next_number(), handle))
        return handle

    def create_future(self) -> "asyncio.Future[Any]":
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, *, name: object = None, context: Context | None = None) -> Any:
        return SimTask(coro, loop=self, name=name, context=context)

    def run_in_executor(self, _executor: object, func: Callable[..., Any], *args: Any) -> "asyncio.Future[Any]":  # type: ignore[override]
        """A thread's work takes a while and happens at one moment."""
        future = self.create_future()

        def work() -> None:
            if future.done():
                return
            try:
                future.set_result(func(*args))
            except Exception as error:  # whatever it is, it is for whoever waits
                future.set_exception(error)

        self.call_later(self._rng.uniform(0.0, 0.3), work)
        return future

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return self._disposed

    def _timer_handle_cancelled(self, handle: object) -> None:
        """Cancelled timers are skipped when their time comes."""

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """A task that was dropped with its process, or whose error its process has died by."""

    def _enqueue(self, handle: SimHandle) -> None:
        process = handle.process
        process.ready.append(handle)
        self._list(process)

    def _list(self, process: Process) -> None:
        if process.runs and not process.listed:
            process.listed = True
            self._runnable.append(process)

    def _run_one(self) -> None:
        runnable = self._runnable
        index = int(self._rng.random() * len(runnable)) if len(runnable) > 1 else 0
        process = runnable[index]
        if not (process.runs and process.ready):
            runnable.pop(index)
            process.listed = False
            return
        self.callbacks += 1
        handle = process.ready.popleft()
        handle.run()
        if process.fuse is not None and process.runs:
            process.fuse -= 1
            if process.fuse < 0:
                process.fuse = None
                self.on_fuse(process)

    def _advance(self) -> None:
        """Go to the time of the next timer."""
        self._now_s, _, handle = heapq.heappop(self._timers)
        if not handle.cancelled():
            self._enqueue(handle)
