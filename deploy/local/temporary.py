"""A stack for tests and benchmarks: it lives as long as a with block, and leaves nothing."""

from collections.abc import Iterator
from contextlib import contextmanager

from deploy.local.background import clean, start_supervisor, until_started
from deploy.local.stack import Plan
from deploy.local.state import StackState


@contextmanager
def temporary_stack(plan: Plan) -> Iterator[StackState]:
    """Run a stack of ``plan`` in its directory, which is removed in the end.

    It stops even if this process is killed, but its files then stay.

    Raises:
        StackError: it failed to start.
    """
    with start_supervisor(plan, tethered=True) as supervisor:
        try:
            yield until_started(supervisor, plan.paths)
        finally:
            supervisor.terminate()
            supervisor.wait()
            clean(plan.paths)
