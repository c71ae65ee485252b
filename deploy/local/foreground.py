"""A stack in this very process: until a signal, or for as long as a command runs."""

import asyncio
import logging
import signal

from deploy.local.process import run_to_end
from deploy.local.service import Command, StackError
from deploy.local.stack import Plan, design
from deploy.local.supervisor import Supervisor, sole_supervisor

log = logging.getLogger("headrace.stack")

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
FAILED = 1
INTERRUPTED = 130


def run(plan: Plan, command: Command | None = None) -> int:
    """Run a stack in the foreground and return an exit code.

    With a command, the stack lives as long as the command, which has the stack's addresses in its
    environment, and the code is the command's. Without, it lives until a signal. A second signal
    skips the orderly stop.

    Raises:
        StackError: a stack runs in this directory already.
    """
    with sole_supervisor(plan.paths.lock):
        return asyncio.run(supervise(Supervisor(plan.paths, lambda: design(plan)), command))


async def supervise(supervisor: Supervisor, command: Command | None) -> int:
    """Start, serve and stop, listening to signals all the while."""
    loop = asyncio.get_running_loop()
    asked_to_stop = asyncio.Event()
    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, asked_to_stop.set)
    serving = asyncio.create_task(serve(supervisor, command))
    asked = asyncio.create_task(asked_to_stop.wait())
    await asyncio.wait({serving, asked}, return_when=asyncio.FIRST_COMPLETED)
    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, supervisor.kill)
    asked.cancel()
    serving.cancel()
    await asyncio.wait({serving})
    exit_code = INTERRUPTED if serving.cancelled() else conclude(serving, supervisor)
    await supervisor.stop()
    return exit_code


def conclude(serving: asyncio.Task[int], supervisor: Supervisor) -> int:
    """The exit code of a run that ended by itself; a failure is logged and left in the state."""
    match serving.exception():
        case None:
            return serving.result()
        case StackError() as error:
            log.error("%s", error)
            supervisor.error = str(error)
            return FAILED
        case bug:
            supervisor.error = f"{type(bug).__name__}: {bug}"
            log.error("the supervisor failed", exc_info=bug)
            return FAILED


async def serve(supervisor: Supervisor, command: Command | None) -> int:
    """Start the stack, then run ``command`` to its end, or wait for a signal."""
    await supervisor.start()
    if command is not None:
        return await run_to_end(command, None, supervisor.environment)
    log.info("the stack runs; %s has its addresses; Ctrl-C stops it", supervisor.paths.environment)
    await asyncio.Event().wait()
    raise AssertionError("nobody sets that event")
