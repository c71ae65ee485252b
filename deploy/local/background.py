"""A stack that outlives the command which started it: `up` and `down`."""

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from deploy.local.paths import ROOT, StackPaths
from deploy.local.process import last_lines
from deploy.local.service import StackError
from deploy.local.stack import Plan
from deploy.local.state import Phase, ProcessIdentity, StackState, read_state

#: How often `up` reads what its supervisor has written.
POLL_S = 0.05

#: Longer than every service's own bound one after the other.
STOP_WITHIN_S = 90.0


def up(plan: Plan) -> StackState:
    """Start a stack in the background and return once all of it is healthy.

    A stack that runs already is left as it is. Ctrl-C before it is healthy stops it again.

    Raises:
        StackError: it failed to start; nothing of it runs any more.
        KeyboardInterrupt: likewise.
    """
    present = running_state(plan.paths)
    if present is not None:
        return present
    # Noted rather than raised: an exception between the fork and its return would lose the child.
    with noted_interrupts() as interrupts:
        supervisor = start_supervisor(plan)
        state = until_started(supervisor, plan.paths, interrupts)
    if state is not None:
        return state
    supervisor.wait()
    if interrupts:
        raise KeyboardInterrupt
    left = read_state(plan.paths.state)
    raise StackError(left.error if left and left.error else last_lines(plan.paths.log("supervisor")))


@contextmanager
def noted_interrupts() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM instead of acting on them."""
    noted: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        del frame
        noted.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield noted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def start_supervisor(plan: Plan) -> subprocess.Popen[bytes]:
    """Start the foreground command in a session of its own, its words in logs/supervisor.log."""
    plan.paths.logs.mkdir(parents=True, exist_ok=True)
    # A predecessor's last state must not be read as this one's.
    plan.paths.state.unlink(missing_ok=True)
    with plan.paths.log("supervisor").open("wb") as output:
        return subprocess.Popen(
            (sys.executable, "-m", "deploy.local", "run", *plan.arguments()),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=ROOT,
            start_new_session=True,
        )


def until_started(
    supervisor: subprocess.Popen[bytes], paths: StackPaths, interrupts: list[int]
) -> StackState | None:
    """Wait until the supervisor says that the stack is ready; None if it ends, or we are interrupted."""
    while supervisor.poll() is None:
        state = read_state(paths.state)
        if state is not None and state.phase in (Phase.READY, Phase.DEGRADED):
            return state
        if interrupts:
            supervisor.terminate()
            return None
        time.sleep(POLL_S)
    return None


def running_state(paths: StackPaths) -> StackState | None:
    """The state of the stack that runs in this directory; None if none runs."""
    state = read_state(paths.state)
    if state is None:
        return None
    pidfd = state.supervisor.open()
    if pidfd is None:
        return None
    os.close(pidfd)
    return state


def down(paths: StackPaths) -> bool:
    """Stop the stack in this directory and return once it is gone; False if none ran.

    Raises:
        StackError: it was still there after ``STOP_WITHIN_S``.
    """
    state = read_state(paths.state)
    if state is None or not stop_and_wait(state.supervisor):
        return False
    return True


def stop_and_wait(supervisor: ProcessIdentity) -> bool:
    """End the supervisor, which ends the rest first; False if it is gone already."""
    pidfd = supervisor.open()
    if pidfd is None:
        return False
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGTERM)
        ended, _, _ = select.select([pidfd], [], [], STOP_WITHIN_S)
    finally:
        os.close(pidfd)
    if not ended:
        raise StackError(f"the supervisor (process {supervisor.pid}) still runs after {STOP_WITHIN_S:.0f} s")
    return True
