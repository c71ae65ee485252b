"""``@monitor_performance("store.read")``: measure a function, and change nothing else about it."""

import functools
import inspect
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from time import perf_counter
from types import TracebackType
from typing import Any, Final, TypeVar, cast

from runtime.monitoring.operation import FULL, OTHER, Operation, Reading

Function = TypeVar("Function", bound=Callable[..., Any])
Answer = TypeVar("Answer")
#: Operations that are told apart; any more are ``other``. Each takes about 130 KB while it is busy.
OPERATIONS_MOST: Final = 500


class Operations:
    """The operations of a process by name; functions that share a name share the figures. Thread-safe."""

    def __init__(self, clock: Callable[[], float] = perf_counter) -> None:
        self.clock = clock
        self._lock = threading.Lock()
        self._operations: dict[str, Operation] = {}

    def of(self, name: str) -> Operation:
        """The operation of this name, which is made if it is the first time."""
        if operation := self._operations.get(name):
            return operation
        with self._lock:
            if name not in self._operations and len(self._operations) >= OPERATIONS_MOST:
                name = OTHER
            return self._operations.setdefault(name, Operation(name, self.clock))

    def readings(self) -> list[Reading]:
        """All operations that have begun at least once, by name."""
        with self._lock:
            operations = sorted(self._operations.items())
        readings = (operation.reading() for _, operation in operations)
        return [one for one in readings if one.durations.count or one.errors or one.cancelled or one.in_flight]

    def all(self) -> list[Operation]:
        """By name, those too that were never called."""
        with self._lock:
            return [operation for _, operation in sorted(self._operations.items())]

    def monitor(self, name: str) -> Callable[[Function], Function]:
        """As ``monitor_performance``, for operations of one's own."""

        def decorate(function: Function) -> Function:
            if not callable(function):
                raise TypeError(f"{function!r} can't be called: @monitor_performance goes below @classmethod.")
            operation = self.of(name)
            if inspect.isasyncgenfunction(function):
                return cast(Function, _async_generator(function, operation))
            if inspect.iscoroutinefunction(function):
                return cast(Function, _coroutine(function, operation))
            if inspect.isgeneratorfunction(function):
                return cast(Function, _generator(function, operation))
            return cast(Function, _function(function, operation))

        return decorate


#: The process' own, which its metrics tell of.
OPERATIONS: Final = Operations()


def monitor_performance(name: str) -> Callable[[Function], Function]:
    """Measure the calls of a function, method, coroutine function, generator function or asynchronous one.

    What it returns and raises, its signature and its kind stay the same, but for one thing: a coroutine function or a
    generator function that gets wrong arguments tells when it begins to run. A call costs about half a microsecond
    more. A generator counts from its first step to its end, with the time that its steps take and not its reader's; one
    that is closed before its end counts as cancelled. Below ``@staticmethod``, ``@classmethod``, ``@property``.
    """
    return OPERATIONS.monitor(name)


def _function(function: Callable[..., Answer], operation: Operation) -> Callable[..., Answer]:
    # Here and in ``_coroutine``, ``Operation.call`` with its parts looked up once: a third of what it costs.
    begin, clock, fold = operation.begin, operation.clock, operation.fold
    notes, note = operation.notes, operation.notes.extend

    @functools.wraps(function)
    def measured(*args: Any, **options: Any) -> Answer:
        begin()
        begun_s = clock()
        try:
            answer = function(*args, **options)
        except BaseException as error:
            operation.raised(begun_s, error)
            raise
        note((begun_s, clock()))
        if len(notes) >= FULL:
            fold()
        return answer

    return measured


def _coroutine(
    function: Callable[..., Coroutine[Any, Any, Answer]], operation: Operation
) -> Callable[..., Coroutine[Any, Any, Answer]]:
    begin, clock, fold = operation.begin, operation.clock, operation.fold
    notes, note = operation.notes, operation.notes.extend

    @functools.wraps(function)
    async def measured(*args: Any, **options: Any) -> Answer:
        begin()
        begun_s = clock()
        try:
            answer = await function(*args, **options)
        except BaseException as error:
            operation.raised(begun_s, error)
            raise
        note((begun_s, clock()))
        if len(notes) >= FULL:
            fold()
        return answer

    return measured


class _Steps(Generator[Any, Any, Any]):
    """A generator and the time that its steps took; ``yield from`` hands on to it all that a reader does."""

    def __init__(self, steps: Generator[Any, Any, Any], clock: Callable[[], float]) -> None:
        self._steps = steps
        self._clock = clock
        self.took_s = 0.0

    def __next__(self) -> Any:
        return self._timed(self._steps.__next__)

    def send(self, value: Any) -> Any:
        return self._timed(self._steps.send, value)

    def throw(self, kind: Any, value: object = None, traceback: TracebackType | None = None) -> Any:
        if value is None and traceback is None:
            return self._timed(self._steps.throw, kind)
        return self._timed(self._steps.throw, kind, value, traceback)

    def close(self) -> None:
        self._timed(self._steps.close)

    def _timed(self, step: Callable[..., Any], *given: Any) -> Any:
        begun_s = self._clock()
        try:
            return step(*given)
        finally:
            self.took_s += self._clock() - begun_s


def _generator(
    function: Callable[..., Generator[Any, Any, Answer]], operation: Operation
) -> Callable[..., Generator[Any, Any, Answer]]:
    @functools.wraps(function)
    def measured(*args: Any, **options: Any) -> Generator[Any, Any, Answer]:
        steps = _Steps(function(*args, **options), operation.clock)
        operation.begin()
        try:
            answer: Answer = yield from steps
        except BaseException as error:
            operation.raised(operation.clock() - steps.took_s, error)
            raise
        operation.returned(operation.clock() - steps.took_s)
        return answer

    return measured


def _async_generator(
    function: Callable[..., AsyncGenerator[Any, Any]], operation: Operation
) -> Callable[..., AsyncGenerator[Any, Any]]:
    @functools.wraps(function)
    async def measured(*args: Any, **options: Any) -> AsyncGenerator[Any, Any]:
        clock, took_s = operation.clock, 0.0
        steps = function(*args, **options)
        step: Any = _first(steps)
        operation.begin()
        try:
            while True:
                begun_s = clock()
                try:
                    item = await step
                except StopAsyncIteration:
                    break
                finally:
                    took_s += clock() - begun_s
                # There is no ``yield from`` here: what the reader sends, or throws, is handed on. A close is thrown
                # as GeneratorExit, and comes back so from a generator that lets itself be closed.
                try:
                    sent = yield item
                except BaseException as thrown:
                    step = steps.athrow(thrown)
                else:
                    step = steps.asend(sent)
        except BaseException as error:
            operation.raised(clock() - took_s, error)
            raise
        operation.returned(clock() - took_s)

    return measured


def _first(steps: AsyncGenerator[Any, Any]) -> Any:
    """Begin a generator behind the event loop's back: when that ends, it would close it while its wrapper does."""
    hooks = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(None, None)
    try:
        return steps.__anext__()
    finally:
        sys.set_asyncgen_hooks(*hooks)
