"""One child process from its start to its end."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Self

from deploy.local.service import Command, Creation, Service, StackError

LEASH = Path(__file__).with_name("leash.py")

#: How often a starting service is asked whether it is healthy.
POLL_S = 0.05

#: How long a command may take to end when nobody wants its result any more.
CANCELLED_GRACE_S = 2.0

#: How much of a log an error message shows.
SHOWN_LINES = 15


def leashed(argv: tuple[str, ...], death_signal: signal.Signals, user: str = "") -> tuple[str, ...]:
    """The command line that runs ``argv``, as ``user``, until the process that starts it dies.

    Raises:
        StackError: the program is not installed.
    """
    program = shutil.which(argv[0])
    if program is None:
        raise StackError(f"{argv[0]} is not on PATH: run `make setup`")
    interpreter = (sys.executable, "-I", "-S", str(LEASH))
    return (*interpreter, str(os.getpid()), str(int(death_signal)), user, "--", program, *argv[1:])


async def spawn(
    command: Command,
    output: IO[bytes] | None,
    environment: Mapping[str, str],
    death_signal: signal.Signals = signal.SIGKILL,
) -> asyncio.subprocess.Process:
    """Start ``command`` on a leash and in a process group of its own.

    The group keeps a terminal's Ctrl-C away from it: the supervisor alone hears that, and stops the
    processes in order. The fork must happen on the main thread, as the kernel sends the death signal
    when the forking *thread* ends; asyncio forks on the thread of its loop.

    Raises:
        StackError: the program is not installed.
    """
    return await asyncio.create_subprocess_exec(
        *leashed(command.argv, death_signal, command.user),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT if output else None,
        env={**os.environ, **environment, **command.environment},
        cwd=command.cwd,
        process_group=0,
    )


async def run_to_end(command: Command, output: IO[bytes] | None, environment: Mapping[str, str]) -> int:
    """Run ``command`` and return its exit code; if we are cancelled, it is ended first."""
    process = await spawn(command, output, environment)
    try:
        return await process.wait()
    except asyncio.CancelledError:
        await end(process, signal.SIGTERM, grace_s=CANCELLED_GRACE_S)
        raise


async def run_step(name: str, command: Command, log: Path, environment: Mapping[str, str]) -> None:
    """Run ``command`` to its end, its output appended to ``log``.

    Raises:
        StackError: it failed; with its log's last lines.
    """
    with log.open("ab") as output:
        exit_code = await run_to_end(command, output, environment)
    if exit_code != 0:
        raise StackError(f"{name} failed with exit code {exit_code}; {last_lines(log)}")


async def create(name: str, creation: Creation, log: Path) -> None:
    """Make the directory of ``creation`` unless it exists.

    Raises:
        StackError: a command failed; with its log's last lines.
    """
    if creation.path.exists():
        return
    shutil.rmtree(creation.unfinished, ignore_errors=True)
    for command in creation.commands:
        await run_step(f"{name}: preparing {creation.path}", command, log, {})
    creation.unfinished.rename(creation.path)


async def end(process: asyncio.subprocess.Process, stop_signal: signal.Signals, grace_s: float) -> None:
    """Ask ``process`` to end, and kill it if it has not done so in time."""
    if process.returncode is None:
        process.send_signal(stop_signal)
    try:
        async with asyncio.timeout(grace_s):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


class RunningService:
    """A service that was started, until it ends or is stopped."""

    def __init__(self, service: Service, process: asyncio.subprocess.Process, log: Path) -> None:
        self.service = service
        self.process = process
        self.log = log

    @classmethod
    async def start(cls, service: Service, log: Path, environment: Mapping[str, str]) -> Self:
        """Start the process; it may not be healthy yet."""
        with log.open("ab") as output:
            process = await spawn(service.command, output, environment, service.death_signal)
        return cls(service, process, log)

    async def until_healthy(self) -> None:
        """Wait until the service serves.

        Raises:
            StackError: it ended, or its time was up; with its log's last lines.
        """
        try:
            async with asyncio.timeout(self.service.start_s):
                while not await self.service.is_healthy():
                    if self.process.returncode is not None:
                        raise StackError(f"{self.description_of_end()}; {last_lines(self.log)}")
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            waited = f"{self.service.name} was not healthy after {self.service.start_s:.0f} s"
            raise StackError(f"{waited}; {last_lines(self.log)}") from None

    def description_of_end(self) -> str:
        """How the process ended, for a message."""
        return f"{self.service.name} (process {self.process.pid}) ended with exit code {self.process.returncode}"

    async def stop(self) -> None:
        """End the process in the way that its service names; harmless if it has ended."""
        await end(self.process, self.service.stop_signal, self.service.stop_s)

    def kill(self) -> None:
        """Kill the process at once; harmless if it has ended."""
        if self.process.returncode is None:
            self.process.kill()


def last_lines(log: Path, count: int = SHOWN_LINES) -> str:
    """The end of ``log``, for a message."""
    lines = log.read_text(errors="replace").splitlines()[-count:]
    return "\n".join((f"the last lines of {log}:", *(f"  {line}" for line in lines)))
