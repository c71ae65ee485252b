"""The parent of every process of a stack: starts them, watches them, and stops them in order.

It restarts nothing. A process that ends by itself is logged and recorded in the state file, and the
rest goes on without it: what happens then is the platform's business, and worth seeing.
"""

import asyncio
import fcntl
import itertools
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec

from deploy.local.orphans import adopt_orphans, kill_orphans
from deploy.local.paths import StackPaths
from deploy.local.process import RunningService, create, run_step
from deploy.local.service import Service, StackError
from deploy.local.stack import Stack, Stage
from deploy.local.state import Phase, ProcessIdentity, ServiceState, StackState, write_private

log = logging.getLogger("headrace.stack")


@contextmanager
def sole_supervisor(lock: Path) -> Iterator[None]:
    """Hold ``lock``, which the kernel frees however this process ends.

    Raises:
        StackError: another supervisor holds it.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StackError(f"a stack runs in {lock.parent} already; stop it with `make down`") from None
        yield


class Supervisor:
    """One run of a stack, from its first process to its last."""

    def __init__(self, paths: StackPaths, design: Callable[[], Stack]) -> None:
        """``design`` is called when the folders are there; it chooses the ports."""
        self.paths = paths
        self.design = design
        self.environment: Mapping[str, str] = {}
        self.running: list[RunningService] = []
        self.watches: list[asyncio.Task[None]] = []
        self.phase = Phase.STARTING
        self.error = ""

    async def start(self) -> None:
        """Start everything and return once all of it is healthy.

        Raises:
            StackError: something failed; what has started still runs, until ``stop``.
        """
        adopt_orphans()
        self.prepare_directory()
        stack = self.design()
        self.environment = stack.environment
        for stage in stack.stages:
            await self.start_stage(stage)
        self.raise_for_the_dead()
        lines = "".join(f"{name}={value}\n" for name, value in self.environment.items())
        write_private(self.paths.environment, lines.encode())
        self.report(Phase.READY)

    def prepare_directory(self) -> None:
        """Make the stack's folders, and remove what an earlier run said of itself."""
        for folder in (self.paths.logs, self.paths.ready, self.paths.store):
            folder.mkdir(parents=True, exist_ok=True)
        for stale in (*self.paths.ready.iterdir(), self.paths.environment):
            stale.unlink(missing_ok=True)
        for stale_log in self.paths.logs.iterdir():
            # Not removed: our own words may be on their way into one of them.
            os.truncate(stale_log, 0)
        self.report(Phase.STARTING)

    async def start_stage(self, stage: Stage) -> None:
        """Run the stage's steps at once, then start its services at once."""
        try:
            async with asyncio.TaskGroup() as steps:
                for name, command in stage.steps.items():
                    steps.create_task(run_step(name, command, self.paths.log(name), self.environment))
            async with asyncio.TaskGroup() as services:
                for service in stage.services:
                    services.create_task(self.start_service(service))
        except ExceptionGroup as group:
            # The first to fail; the others were cancelled because of it. (Raised in an ``except*`` clause,
            # it would be wrapped in a group again.)
            raise group.exceptions[0] from None

    async def start_service(self, service: Service) -> None:
        """Start one service, and watch it as soon as it is healthy."""
        log_path = self.paths.log(service.name)
        for creation in service.creations:
            await create(service.name, creation, log_path)
        running = await RunningService.start(service, log_path, self.environment)
        self.running.append(running)
        await running.until_healthy()
        log.info("%s is healthy (process %d)", service.name, running.process.pid)
        self.watches.append(asyncio.create_task(self.watch(running)))
        self.report(self.phase)

    async def watch(self, running: RunningService) -> None:
        """Wait for the process's end, and make it known."""
        await running.process.wait()
        self.report(Phase.DEGRADED if self.phase is Phase.READY else self.phase)
        log.error("%s; it is not restarted; its log: %s", running.description_of_end(), running.log)

    def raise_for_the_dead(self) -> None:
        """Fail if a service ended after it was healthy but before the whole stack was."""
        for running in self.running:
            if running.process.returncode is not None:
                raise StackError(f"{running.description_of_end()}; its log: {running.log}")

    async def stop(self) -> None:
        """Stop everything that runs, by rank, and leave no process behind."""
        for watch in self.watches:
            watch.cancel()
        try:
            self.paths.environment.unlink(missing_ok=True)
            self.report(Phase.FAILED if self.error else Phase.STOPPING)
        finally:
            # Even where the directory was removed under us.
            await self.stop_services()
        if not self.error:
            self.paths.state.unlink(missing_ok=True)

    async def stop_services(self) -> None:
        """Stop the services, those of equal rank together."""
        by_rank = sorted(self.running, key=lambda running: -running.service.stop_rank)
        for _, equals in itertools.groupby(by_rank, key=lambda running: running.service.stop_rank):
            await asyncio.gather(*(running.stop() for running in equals))
        kill_orphans()

    def kill(self) -> None:
        """Kill everything now; ``stop`` then finds it ended."""
        for running in self.running:
            running.kill()

    def report(self, phase: Phase) -> None:
        """Write the state file."""
        self.phase = phase
        identity = ProcessIdentity.of(os.getpid())
        assert identity is not None, "we run"
        services = tuple(
            ServiceState(running.service.name, running.process.pid, str(running.log), running.process.returncode)
            for running in self.running
        )
        state = StackState(identity, phase, services, dict(self.environment), self.error)
        write_private(self.paths.state, msgspec.json.encode(state))
