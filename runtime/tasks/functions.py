"""Functions that can be submitted: ``@async_task`` says where they run and how long they may."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, Concatenate, Generic, Literal, ParamSpec, TypeVar, cast, overload

import msgspec
from msgspec import Struct

from runtime.tasks.context import TaskContext
from runtime.tasks.status import Progress

P = ParamSpec("P")
R = TypeVar("R")

OnProgress = Callable[[Progress], None]
WhenFull = Literal["wait", "raise"]


class Options(Struct, frozen=True):
    """How a task is run."""

    #: In a process of its own instead of a thread: for what computes, or may crash or hang.
    use_process: bool = False
    #: Seconds from its submission, the time in the queue included.
    deadline_s: float | None = None
    #: What a submission does while the queue is full, and for how long it waits; None: until there is room.
    when_full: WhenFull = "wait"
    wait_s: float | None = None
    #: Called by the pool's own threads, in order; must not block.
    on_progress: OnProgress | None = None


class TaskFunction(Generic[P, R]):
    """A function with its options. Called as such it runs here and now, as tests want it."""

    def __init__(self, function: Callable[..., R], options: Options, *, wants_context: bool) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.defaults = options
        self.wants_context = wants_context
        #: What a child process finds under the module's name; copies with other options have none.
        self.origin: TaskFunction[P, R] = self

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the function in this thread, without a manager."""
        return self.run(TaskContext.detached, args, kwargs)

    def run(self, context: Callable[[], TaskContext], args: tuple[Any, ...], kwargs: dict[str, Any]) -> R:
        """Run the function, with a context if it wants one."""
        return self.function(context(), *args, **kwargs) if self.wants_context else self.function(*args, **kwargs)

    def options(
        self,
        *,
        deadline_s: float | None = None,
        when_full: WhenFull | None = None,
        wait_s: float | None = None,
        on_progress: OnProgress | None = None,
    ) -> "TaskFunction[P, R]":
        """The same function with other options for some submissions; what is None stays as it is."""
        asked = {"deadline_s": deadline_s, "when_full": when_full, "wait_s": wait_s, "on_progress": on_progress}
        changes = {name: value for name, value in asked.items() if value is not None}
        copy = TaskFunction[P, R](
            self.function, msgspec.structs.replace(self.defaults, **changes), wants_context=self.wants_context
        )
        copy.origin = self.origin
        return copy

    def __reduce__(self) -> str:
        # Pickled by its name alone, as functions are.
        return cast(str, self.__qualname__)  # type: ignore[attr-defined]  # set by update_wrapper


@overload
def async_task(function: Callable[Concatenate[TaskContext, P], R], /) -> TaskFunction[P, R]: ...
@overload
def async_task(function: Callable[P, R], /) -> TaskFunction[P, R]: ...
@overload
def async_task(
    *,
    use_process: bool = False,
    deadline_s: float | None = None,
    when_full: WhenFull = "wait",
    wait_s: float | None = None,
) -> "TaskDecorator": ...
def async_task(
    function: Callable[..., Any] | None = None,
    /,
    *,
    use_process: bool = False,
    deadline_s: float | None = None,
    when_full: WhenFull = "wait",
    wait_s: float | None = None,
) -> Any:
    """Let a function be submitted to a ``TaskManager``; with or without options.

    If its first parameter is annotated ``TaskContext``, the pool passes that, and callers leave it out. With
    ``use_process`` the function has to be found by its name in an importable module, and its arguments and its
    result have to bear pickling.
    """
    decorator = TaskDecorator(Options(use_process, deadline_s, when_full, wait_s))
    return decorator if function is None else decorator(function)


class TaskDecorator:
    """``@async_task`` with its options."""

    def __init__(self, options: Options) -> None:
        self._options = options

    @overload
    def __call__(self, function: Callable[Concatenate[TaskContext, P], R], /) -> TaskFunction[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> TaskFunction[P, R]: ...
    def __call__(self, function: Callable[..., Any], /) -> TaskFunction[..., Any]:
        """Wrap the function.

        Raises:
            TypeError: it is a coroutine function.
        """
        if inspect.iscoroutinefunction(function):
            raise TypeError(f"{function.__qualname__} is async, and runs on its caller's loop: await it instead")
        return TaskFunction(function, self._options, wants_context=_wants_context(function))


def _wants_context(function: Callable[..., Any]) -> bool:
    first = next(iter(inspect.signature(function).parameters.values()), None)
    # A string where the module postpones the evaluation of its annotations.
    return first is not None and first.annotation in (TaskContext, TaskContext.__name__)
