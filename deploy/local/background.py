"""A stack in a process of its own, which may outlive the command that started it: `up` and `down`."""

import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from deploy.local.paths import ROOT, StackPaths
from deploy.local.process import last_lines, leashed
from deploy.local.servers.postgres import home_of
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
        StackError: it failed to start, and nothing of it runs any more; or the one that runs is unfit.
        KeyboardInterrupt: it was interrupted, and nothing of it runs any more.
    """
    present = running_stack(plan)
    if present is not None:
        return present
    # Noted rather than raised: an exception between the fork and its return would lose the child.
    with noted_interrupts() as interrupts:
        state = until_started(start_supervisor(plan), plan.paths, interrupts)
    if interrupts:
        down(plan.paths)
        raise KeyboardInterrupt
    return state


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


def start_supervisor(plan: Plan, *, tethered: bool = False) -> subprocess.Popen[bytes]:
    """Start the foreground command in a session of its own, its words in logs/supervisor.log.

    Tethered means that the stack also stops when the thread that calls this ends, in whatever way.
    """
    argv: tuple[str, ...] = (sys.executable, "-m", "deploy.local", "run", *plan.arguments())
    plan.paths.logs.mkdir(parents=True, exist_ok=True)
    with plan.paths.log("supervisor").open("ab") as output:
        return subprocess.Popen(
            leashed(argv, signal.SIGTERM) if tethered else argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=ROOT,
            start_new_session=True,
        )


def until_started(supervisor: subprocess.Popen[bytes], paths: StackPaths, interrupts: Sequence[int] = ()) -> StackState:
    """Wait until the supervisor says that the stack is up; stop it once ``interrupts`` has an element.

    Raises:
        StackError: the supervisor ended; with its log's last lines. Or a process did, as soon as all were healthy.
        KeyboardInterrupt: we were interrupted, and the supervisor has ended.
    """
    while supervisor.poll() is None:
        if interrupts:
            supervisor.terminate()
            supervisor.wait()
            raise KeyboardInterrupt
        state = read_state(paths.state)
        if state is not None and state.supervisor.pid == supervisor.pid:
            if state.phase is Phase.READY:
                return state
            if state.phase is Phase.DEGRADED:
                raise unfit(state, paths)
        time.sleep(POLL_S)
    raise StackError(f"the stack did not start; {last_lines(paths.log('supervisor'))}")


def running_stack(plan: Plan) -> StackState | None:
    """The healthy stack that runs in the plan's directory; None if none runs.

    Raises:
        StackError: it is not healthy (yet), or lacks the processes that the plan has.
    """
    state = read_state(plan.paths.state)
    if state is None or not state.supervisor.runs():
        return None
    if state.phase is Phase.READY and (plan.servers_only or state.has_processes()):
        return state
    raise unfit(state, plan.paths)


def unfit(state: StackState, paths: StackPaths) -> StackError:
    """What is wrong with a stack that runs, but not as it should."""
    flaw = f"is {state.phase.value}" if state.phase is not Phase.READY else "has servers only"
    ended = "".join(f"; {service.name} ended with exit code {service.exit_code}" for service in state.ended())
    return StackError(f"the stack in {paths.directory} {flaw}{ended}: stop it with `make down`, then start it again")


def down(paths: StackPaths) -> bool:
    """Stop the stack in this directory and return once it is gone; False if none ran.

    Raises:
        StackError: it was still there after ``STOP_WITHIN_S``.
    """
    state = read_state(paths.state)
    return state is not None and stop_and_wait(state.supervisor)


def clean(paths: StackPaths) -> None:
    """Stop the stack and remove everything that it left, wherever it lies."""
    down(paths)
    for directory in (home_of(paths.postgres), paths.directory):
        if directory is not None and directory.exists():
            shutil.rmtree(directory)
    paths.environment.unlink(missing_ok=True)


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
