"""A task as queues and runners see it: queued, running, ended. ``Task`` adds what its submitter may do."""

import contextlib
import functools
import logging
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, TypeVarTuple

from runtime.tasks.context import StopSignal, TaskContext, stopped
from runtime.tasks.errors import Failure, TaskError
from runtime.tasks.functions import OnProgress, Options, TaskFunction
from runtime.tasks.status import NO_PROGRESS, Progress, Reason, State, TaskStatus

if TYPE_CHECKING:  # they hold tasks
    from runtime.tasks.ledger import Ledger
    from runtime.tasks.queue import TaskQueue

R = TypeVar("R", covariant=True)
Arguments = TypeVarTuple("Arguments")
Callback = Callable[[], None]

log = logging.getLogger(__name__)


class Runner(Protocol):
    """Whatever runs a task now, and can make it stop."""

    def stop(self, task: "Life[Any]", reason: Reason) -> None:
        """Have the task told, and see that it is over after a grace. Does not wait."""


class Call:
    """What a task is to do."""

    __slots__ = ("args", "function", "kwargs")

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.function = function
        self.args = args
        self.kwargs = kwargs

    def run(self, context: Callable[[], TaskContext]) -> Any:
        """Do it in this thread."""
        if isinstance(self.function, TaskFunction):
            return self.function.run(context, self.args, self.kwargs)
        return self.function(*self.args, **self.kwargs)


class Life(Generic[R]):
    """From a task's submission to its end, which is settled once: by whoever runs it, or took it out of the queue."""

    __slots__ = (
        "_callbacks", "_error", "_failure", "_ledger", "_listeners", "_queue", "_reason", "_runner", "_signal",
        "_value", "call", "ended", "ended_at", "id", "kept", "name", "progress", "started_at", "state",
        "submitted_at", "timer",
    )  # fmt: skip

    def __init__(
        self, task_id: str, call: Call, options: Options, ledger: "Ledger", queue: "TaskQueue", *, kept: bool = True
    ) -> None:
        self.id = task_id
        self.name: str = getattr(call.function, "__qualname__", None) or _name(call.function)
        #: Dropped when it is done: kept results keep no arguments.
        self.call: Call | None = call
        self.kept = kept
        self.state: State = "queued"
        self.progress = NO_PROGRESS
        self.submitted_at = time.time()
        self.started_at: float | None = None
        self.ended_at: float | None = None
        #: Whether it has its result or its error: true a moment after ``ended_at``, when the manager knows as well.
        self.ended = False
        #: Forgets the deadline.
        self.timer: Callback | None = None
        self._ledger = ledger
        self._queue = queue
        self._runner: Runner | None = None
        self._callbacks: list[Callback] | None = None
        self._listeners: tuple[OnProgress, ...] = (options.on_progress,) if options.on_progress else ()
        self._reason: Reason | None = None
        self._signal: StopSignal | None = None
        self._value: R | None = None
        self._error: Callable[[], TaskError] | None = None
        self._failure: Failure | None = None

    def __repr__(self) -> str:
        return f"{self.id} ({self.name})"

    def status(self) -> TaskStatus:
        """The task at this moment."""
        return TaskStatus(
            id=self.id,
            name=self.name,
            pool=self._queue.name,
            state=self.state,
            submitted_at=self.submitted_at,
            progress=self.progress,
            started_at=self.started_at,
            ended_at=self.ended_at,
            failure=self._failure,
        )

    def on_end(self, callback: Callback) -> None:
        """Call it once the task has ended, in the thread that ends it; at once if it has. It must not block."""
        with self._ledger.steps:
            if not self.ended:
                if self._callbacks is None:
                    self._callbacks = []
                self._callbacks.append(callback)
                return
        self._call(callback)

    @contextlib.contextmanager
    def listening(self, wake: Callback) -> Iterator[None]:
        """Call ``wake`` at each progress and at the end."""

        def listen(_progress: Progress) -> None:
            wake()

        with self._ledger.steps:
            self._listeners = (*self._listeners, listen)
        self.on_end(wake)
        try:
            yield
        finally:
            self.forget(wake)
            with self._ledger.steps:
                self._listeners = tuple(one for one in self._listeners if one is not listen)

    def stop(self, reason: Reason) -> bool:
        """Have it stop, for a reason, of which the first stays; false if it has ended already."""
        with self._ledger.steps:
            if self.ended_at is not None or self._reason is not None:
                return self.ended_at is None
            self._reason = reason
            signal, runner = self._signal, self._runner
        if signal is not None:
            signal.set(reason)
        if self._queue.remove(self):
            self.settle_stopped()
        elif runner is not None:
            runner.stop(self, reason)
        return True

    def begin(self, runner: Runner) -> bool:
        """The task starts now, unless it is over or was stopped while it was queued."""
        with self._ledger.steps:
            if self.ended_at is not None:
                return False
            # From now on it is the runner who has to be told.
            self._runner = runner
            begun = self._reason is None
            if begun:
                self.state = "running"
                self.started_at = time.time()
        if not begun:
            self.settle_stopped()
        elif self._ledger.board is not None:
            self._ledger.board.note(self.status())
        return begun

    def context(self) -> TaskContext:
        """The context for a function that runs in this process."""
        # Held here: a task that is given up in this moment drops its own.
        signal = StopSignal()
        with self._ledger.steps:
            self._signal = signal
            reason = self._reason
        if reason is not None:
            signal.set(reason)
        return TaskContext(str(self), self.report, signal)

    def report(self, progress: Progress) -> None:
        """Tell everybody who listens; what comes after the end is dropped."""
        if self.ended_at is not None:
            return
        self.progress = progress
        for listener in self._listeners:
            self._call(listener, progress)
        if self._ledger.board is not None:
            self._ledger.board.note(self.status())

    def succeed(self, value: Any) -> bool:
        """The function returned."""
        return self._settle("succeeded", value)

    def fail(self, failure: Failure, error: Callable[[], TaskError]) -> bool:
        """The function raised, or its process died."""
        return self._settle("failed", None, error, failure)

    def settle_stopped(self) -> bool:
        """The task ended because it was told to."""
        reason = self._reason or "cancelled"
        return self._settle(reason, None, lambda: stopped(str(self), reason))

    def reason(self) -> Reason | None:
        """Why it shall stop."""
        return self._reason

    def _settle(
        self,
        state: State,
        value: Any,
        error: Callable[[], TaskError] | None = None,
        failure: Failure | None = None,
    ) -> bool:
        with self._ledger.steps:
            if self.ended_at is not None:
                return False
            if self._reason == "expired" and state != "expired":
                # Whatever a task brings after its deadline: how long the grace is does not decide what becomes of it.
                state, value, error = "expired", None, lambda: stopped(str(self), "expired")
            self.state, self._value, self._error, self._failure = state, value, error, failure
            self.ended_at = time.time()
        self.call = self._runner = self._signal = None
        self._listeners = ()
        if self.timer is not None:
            self.timer()
            self.timer = None
        self._ledger.ended(self)
        with self._ledger.steps:
            # After ``ended`` is true: who adds one from now on calls it himself.
            callbacks, self._callbacks = self._callbacks, None
        if callbacks is not None:
            for callback in callbacks:
                self._call(callback)
        return True

    def _call(self, callback: Callable[[*Arguments], None], *arguments: *Arguments) -> None:
        try:
            callback(*arguments)
        except Exception:  # somebody else's code, in a thread that other tasks need
            log.exception("a callback of task %s failed", self)

    def forget(self, callback: Callback) -> None:
        """Do not call it, if it was not called yet."""
        with self._ledger.steps:
            if self._callbacks is not None and callback in self._callbacks:
                self._callbacks.remove(callback)


def _name(function: Callable[..., Any]) -> str:
    """Of what has no name: not its ``repr``, which for a partial function has all its arguments in it."""
    while isinstance(function, functools.partial):
        function = function.func
    return getattr(function, "__qualname__", None) or type(function).__qualname__
