"""``@monitor_performance`` changes nothing about a function but that it is measured."""

import asyncio
import gc
import inspect
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import aclosing
from typing import Any, cast

import pytest

from runtime.monitoring import OPERATIONS, Operations, monitor_performance
from runtime.monitoring.operation import Reading
from tests.unit.runtime.test_monitoring_operation import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def operations(clock: Clock) -> Operations:
    return Operations(clock)


def only(operations: Operations) -> Reading:
    (reading,) = operations.readings()
    return reading


def echo(first: int, *, count: int = 2) -> Generator[Any, Any, str]:
    """Yields what it is sent, or the type's name of what is thrown; ends with what it was left with."""
    given: Any = first
    for _ in range(count):
        try:
            given = yield given
        except ValueError as error:
            given = type(error).__name__
    return f"left with {given}"


async def async_echo(first: int, *, count: int = 2) -> AsyncGenerator[Any, Any]:
    """As ``echo``, without a return value."""
    given: Any = first
    for _ in range(count):
        await asyncio.sleep(0)
        try:
            given = yield given
        except ValueError as error:
            given = type(error).__name__


def stubborn() -> Generator[int, None, None]:
    """Does not let itself be closed."""
    try:
        yield 1
    except GeneratorExit:
        yield 2


async def async_stubborn() -> AsyncGenerator[int, None]:
    """Does not let itself be closed."""
    try:
        yield 1
    except GeneratorExit:
        yield 2


def plain(first: int, *, count: int = 2) -> int:
    """Multiplies."""
    return first * count


async def coroutine(first: int, *, count: int = 2) -> int:
    """Multiplies, later."""
    await asyncio.sleep(0)
    return first * count


@pytest.mark.parametrize("function", [plain, coroutine, echo, async_echo])
def test_a_function_stays_what_it_is_for_who_looks_at_it(function: Callable[..., Any], operations: Operations) -> None:
    measured = operations.monitor("test")(function)
    assert measured is not function
    for look in (
        inspect.signature,
        inspect.iscoroutinefunction,
        inspect.isgeneratorfunction,
        inspect.isasyncgenfunction,
        asyncio.iscoroutinefunction,
        inspect.getdoc,
    ):
        assert look(measured) == look(function)
    assert (measured.__name__, measured.__qualname__) == (function.__name__, function.__qualname__)
    assert measured.__annotations__ == function.__annotations__


def test_a_function_returns_what_it_returns_and_is_measured(operations: Operations, clock: Clock) -> None:
    @operations.monitor("test")
    def slow(passed_s: float, *, answer: str) -> str:
        clock.now_s += passed_s
        return answer

    assert slow(0.25, answer="yes") == "yes"
    assert only(operations).durations.max_s == 0.25


def test_an_error_comes_out_as_it_is(operations: Operations) -> None:
    wanted = ValueError("no")

    @operations.monitor("test")
    def failing() -> None:
        raise wanted

    with pytest.raises(ValueError, match="no") as caught:
        failing()
    assert caught.value is wanted
    assert caught.value.__context__ is None
    assert only(operations).errors == {"ValueError": 1}


def test_methods_of_every_kind_are_measured_under_one_name(operations: Operations) -> None:
    class Store:
        size = 3

        @operations.monitor("store")
        def plain(self) -> int:
            return self.size

        @classmethod
        @operations.monitor("store")
        def of_class(cls) -> int:
            return cls.size + 1

        @staticmethod
        @operations.monitor("store")
        def static() -> int:
            return 5

        @property
        @operations.monitor("store")
        def double(self) -> int:
            return 2 * self.size

    assert (Store().plain(), Store.of_class(), Store.static(), Store().double) == (3, 4, 5, 6)
    assert only(operations).durations.count == 4


def test_what_can_not_be_called_is_told_where_to_go(operations: Operations) -> None:
    with pytest.raises(TypeError, match="below @classmethod"):
        operations.monitor("test")(cast(Callable[..., Any], classmethod(cast(Any, plain))))


def test_a_coroutine_is_measured_with_its_waits_and_a_cancelled_one_is_no_error(
    operations: Operations, clock: Clock
) -> None:
    @operations.monitor("test")
    async def slow(passed_s: float) -> float:
        await asyncio.sleep(0)
        clock.now_s += passed_s
        await asyncio.sleep(3_600 if passed_s < 0 else 0)
        return passed_s

    async def run() -> None:
        assert await slow(2.0) == 2.0
        waiting = asyncio.create_task(slow(-1.0))
        await asyncio.sleep(0)
        assert only(operations).in_flight == 1
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(run())
    reading = only(operations)
    assert (reading.durations.count, reading.durations.max_s) == (1, 2.0)
    assert (reading.cancelled, reading.errors, reading.in_flight) == (1, {}, 0)


def test_a_timeout_is_an_error_of_who_set_it_and_not_of_what_it_cancels(operations: Operations) -> None:
    inner = operations.monitor("inner")(asyncio.sleep)

    @operations.monitor("outer")
    async def outer() -> None:
        await asyncio.wait_for(inner(3_600), 0)

    with pytest.raises(TimeoutError):
        asyncio.run(outer())
    by_name = {one.name: one for one in operations.readings()}
    assert by_name["outer"].errors == {"TimeoutError": 1}
    assert "inner" not in by_name or by_name["inner"].cancelled == 1


def drive(function: Callable[..., Generator[Any, Any, Any]], moves: list[tuple[str, Any]]) -> list[Any]:
    """What a generator answers to what its reader does, and how it ends."""
    steps, seen = function(1, count=3), []
    for move, value in moves:
        try:
            match move:
                case "next":
                    seen.append(next(steps))
                case "send":
                    seen.append(steps.send(value))
                case "throw":
                    seen.append(steps.throw(value))
                case "close":
                    steps.close()
        except BaseException as error:
            seen.append((type(error), error.args))
    return seen


async def async_drive(function: Callable[..., AsyncGenerator[Any, Any]], moves: list[tuple[str, Any]]) -> list[Any]:
    """As ``drive``."""
    steps, seen = function(1, count=3), []
    for move, value in moves:
        try:
            match move:
                case "next":
                    seen.append(await anext(steps))
                case "send":
                    seen.append(await steps.asend(value))
                case "throw":
                    seen.append(await steps.athrow(value))
                case "close":
                    await steps.aclose()
        except BaseException as error:
            seen.append((type(error), error.args))
    return seen


MOVES: list[list[tuple[str, Any]]] = [
    [("next", None)] * 5,
    [("next", None), ("send", 5), ("throw", ValueError("handled")), ("next", None), ("next", None)],
    [("next", None), ("throw", KeyError("not handled")), ("next", None)],
    [("next", None), ("close", None), ("next", None), ("close", None)],
    [("next", None), ("throw", GeneratorExit()), ("next", None)],
    [("throw", ValueError("before the start")), ("next", None)],
    [("close", None), ("next", None)],
    [("send", 5), ("next", None)],
    [("next", None), ("throw", StopIteration(3)), ("next", None)],
    [("next", None), ("throw", StopAsyncIteration(3)), ("next", None)],
]


@pytest.mark.parametrize("moves", MOVES)
def test_a_generator_answers_its_reader_as_before(moves: list[tuple[str, Any]], operations: Operations) -> None:
    assert drive(operations.monitor("test")(echo), moves) == drive(echo, moves)


@pytest.mark.parametrize("moves", MOVES)
def test_an_asynchronous_generator_answers_its_reader_as_before(
    moves: list[tuple[str, Any]], operations: Operations
) -> None:
    async def run() -> None:
        measured = operations.monitor("test")(async_echo)
        assert await async_drive(measured, moves) == await async_drive(async_echo, moves)

    asyncio.run(run())


def test_a_generator_that_does_not_let_itself_be_closed_is_told_so_as_before(operations: Operations) -> None:
    steps = operations.monitor("test")(stubborn)()
    next(steps)
    with pytest.raises(RuntimeError, match="generator ignored GeneratorExit"):
        steps.close()

    async def run() -> None:
        async_steps = operations.monitor("test")(async_stubborn)()
        await anext(async_steps)
        with pytest.raises(RuntimeError, match="async generator ignored GeneratorExit"):
            await async_steps.aclose()

    asyncio.run(run())


def test_a_generator_counts_the_time_of_its_steps_and_not_its_readers(operations: Operations, clock: Clock) -> None:
    @operations.monitor("test")
    def steps() -> Generator[int, None, None]:
        for number in range(3):
            clock.now_s += 1.0
            yield number

    for _ in steps():
        assert only(operations).in_flight == 1
        clock.now_s += 100.0
    assert only(operations).durations.max_s == 3.0
    assert only(operations).in_flight == 0


def test_an_asynchronous_generator_counts_the_time_of_its_steps_and_not_its_readers(
    operations: Operations, clock: Clock
) -> None:
    @operations.monitor("test")
    async def steps() -> AsyncGenerator[int, None]:
        for number in range(3):
            clock.now_s += 1.0
            yield number

    async def run() -> None:
        async with aclosing(steps()) as reading:
            async for _ in reading:
                clock.now_s += 100.0

    asyncio.run(run())
    assert only(operations).durations.max_s == 3.0


def test_generators_that_were_closed_early_or_never_begun_are_no_errors(operations: Operations) -> None:
    measured = operations.monitor("test")(echo)
    measured(1)
    for _ in measured(1):
        break

    async def run() -> None:
        async with aclosing(operations.monitor("test")(async_echo)(1)) as steps:
            await anext(steps)

    asyncio.run(run())
    reading = only(operations)
    assert (reading.cancelled, reading.errors, reading.durations.count, reading.in_flight) == (2, {}, 0, 0)


def test_a_loop_that_ends_closes_what_was_left_open_as_before(operations: Operations) -> None:
    complaints: list[dict[str, Any]] = []
    closed: list[str] = []

    @operations.monitor("test")
    async def held() -> AsyncGenerator[int, None]:
        try:
            yield 1
        finally:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            closed.append("whole")

    async def run() -> list[AsyncGenerator[int, None]]:
        asyncio.get_running_loop().set_exception_handler(lambda _, complaint: complaints.append(complaint))
        open_ones = [held() for _ in range(5)]
        for one in open_ones:
            await anext(one)
        return open_ones

    asyncio.run(run())
    assert (closed, complaints) == (["whole"] * 5, [])


def test_a_generator_that_is_dropped_is_closed_by_the_loop_as_before(operations: Operations) -> None:
    closed: list[str] = []

    @operations.monitor("test")
    async def held() -> AsyncGenerator[int, None]:
        try:
            yield 1
        finally:
            await asyncio.sleep(0)
            closed.append("whole")

    async def run() -> None:
        await anext(held())
        gc.collect()
        for _ in range(5):
            await asyncio.sleep(0)
        assert closed == ["whole"]

    asyncio.run(run())
    assert only(operations).cancelled == 1


def test_wrong_arguments_are_refused_as_before_and_leave_nothing_under_way(operations: Operations) -> None:
    def measured(function: Callable[..., Any]) -> Callable[..., Any]:
        return operations.monitor("test")(function)

    with pytest.raises(TypeError, match="unexpected keyword argument"):
        measured(plain)(wrong=1)
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        list(measured(echo)(wrong=1))

    async def run() -> None:
        with pytest.raises(TypeError, match="unexpected keyword argument"):
            await measured(coroutine)(wrong=1)
        with pytest.raises(TypeError, match="unexpected keyword argument"):
            await anext(measured(async_echo)(wrong=1))

    asyncio.run(run())
    assert only(operations).in_flight == 0


def test_the_process_own_operations_take_what_has_no_other_place() -> None:
    monitor_performance("test.the_process_own")(plain)(1)
    assert OPERATIONS.of("test.the_process_own").reading().durations.count == 1
