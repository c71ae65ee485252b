"""``@async_task``: what is wrapped, and what a function gets."""

import pickle
import subprocess
import sys

import pytest

from runtime import tasks
from runtime.tasks import TaskContext, async_task, task_manager
from tests.unit.runtime.gates import PATIENCE_S


@async_task(use_process=True, deadline_s=5.0)
def double(number: int) -> int:
    """Twice the number."""
    return 2 * number


@async_task
def halves(ctx: TaskContext, number: int) -> float:
    ctx.progress(1, 2)
    ctx.check()
    assert not ctx.wait(0)
    return number / 2 if not ctx.cancelled else 0.0


def test_a_task_function_that_is_called_runs_here_and_now() -> None:
    assert double(4) == 8
    assert halves(4) == 2.0
    assert double.__doc__ == "Twice the number."


def test_other_options_are_those_of_a_copy() -> None:
    copy = double.options(deadline_s=1.0, when_full="raise")
    assert (copy.defaults.deadline_s, copy.defaults.when_full, copy.defaults.use_process) == (1.0, "raise", True)
    assert (double.defaults.deadline_s, double.defaults.when_full) == (5.0, "wait")
    assert copy.options(wait_s=1.0).origin is double


def test_a_task_function_is_pickled_by_its_name() -> None:
    assert pickle.loads(pickle.dumps(double)) is double  # noqa: S301  (our own)


def test_a_context_is_known_by_its_annotation_even_as_text() -> None:
    def postponed(ctx: "TaskContext") -> str:
        return ctx.task

    assert async_task(postponed)() == "(called directly)"


def test_an_async_function_is_refused() -> None:
    async def fetch() -> None: ...

    with pytest.raises(TypeError, match="await it instead"):
        async_task(fetch)


def test_the_shared_manager_is_made_once() -> None:
    assert task_manager() is task_manager()
    assert task_manager().submit(len, "four").result(PATIENCE_S) == 4


def test_the_import_starts_nothing() -> None:
    program = "import threading, multiprocessing, runtime.tasks; print(threading.active_count(), end='')"
    found = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert found == "1"


def test_the_import_does_not_bring_redis() -> None:
    program = "import sys, runtime.tasks; print('redis' in sys.modules, end='')"
    found = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert found == "False"


def test_every_public_name_is_there() -> None:
    assert set(tasks.__all__) <= set(dir(tasks))
