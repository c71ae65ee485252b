"""One process of the stack, which may be killed, frozen, and started again."""

import asyncio
import logging
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import psutil

from deploy.local.process import RunningService, create
from deploy.local.service import Service, StackError
from tests.acceptance.faults.evidence import End

log = logging.getLogger(__name__)

#: Between an unwanted end and the next start, as a supervisor would do it.
RESTART_S: Final = 0.5
WATCH_S: Final = 0.1
GONE_S: Final = 10.0

Healthy = Callable[[], Awaitable[bool]]


class Member:
    """Keeps one service running, but for the times when a fault wants it down.

    ``serves`` is asked after a restart instead of the service's own check, which may ask for the whole cluster.
    ``ready`` is the file that the process writes when it serves; what it ends by, whenever nobody had asked for that,
    is added to ``ends``.
    """

    def __init__(
        self,
        service: Service,
        log_path: Path,
        environment: Mapping[str, str],
        serves: Healthy,
        ends: list[End],
        ready: Path | None = None,
    ) -> None:
        self.name = service.name
        self._service = service
        self._log = log_path
        self._environment = environment
        self._serves = serves
        self._ready = ready
        self._running: RunningService | None = None
        #: How many faults want it down now.
        self._holds = 0
        #: Whether it was told to end.
        self._was_told = False
        self._ends = ends
        self._keeper: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """The process' id while it runs."""
        alive = self._running is not None and self._running.process.returncode is None
        return self._running.process.pid if alive and self._running else None

    async def start(self) -> None:
        """Start it for the first time, wait until it serves, and keep it running from then on.

        Raises:
            StackError: it did not get to serve.
        """
        for creation in self._service.creations:
            await create(self.name, creation, self._log)
        await self._begin()
        assert self._running is not None
        await self._running.until_healthy()
        self._keeper = asyncio.create_task(self._keep(), name=f"keeper of {self.name}")

    async def serving(self) -> None:
        """Wait until it runs and serves again."""
        while not await self.serves():  # noqa: ASYNC110  (another process says so)
            await asyncio.sleep(WATCH_S)

    async def serves(self) -> bool:
        """Whether it runs and serves now."""
        return self.pid is not None and await self._serves()

    @asynccontextmanager
    async def down(self) -> AsyncIterator[None]:
        """Kill it, with its children, and keep it down for the block."""
        self._holds += 1
        try:
            await self.kill()
            yield
        finally:
            self._holds -= 1

    @asynccontextmanager
    async def away(self) -> AsyncIterator[None]:
        """End it in its own way, as for a new release, and keep it down for the block."""
        self._holds += 1
        try:
            if self._running is not None and self.pid is not None:
                await self._running.stop()
                self._was_told = True
            yield
        finally:
            self._holds -= 1

    @asynccontextmanager
    async def frozen(self) -> AsyncIterator[None]:
        """Stop it, with its children, and let it go on after the block."""
        stopped = self._family()
        for process in stopped:
            with suppress(psutil.NoSuchProcess):
                process.suspend()
        try:
            yield
        finally:
            for process in stopped:
                with suppress(psutil.NoSuchProcess):
                    process.resume()

    async def kill(self) -> None:
        """SIGKILL to the process and its children; returns when all are gone."""
        family = self._family()
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        if self._running is not None:
            await self._running.process.wait()
        await asyncio.to_thread(psutil.wait_procs, family[1:], GONE_S)

    async def stop(self) -> None:
        """End it in its own way, for good."""
        self._holds += 1
        if self._keeper:
            self._keeper.cancel()
            await asyncio.wait([self._keeper])
        for process in self._family():
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGCONT)
        if self._running is not None:
            await self._running.stop()

    def family(self) -> list[psutil.Process]:
        """The process and its descendants."""
        return self._family()

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(WATCH_S)
            if self.pid is not None or self._holds:
                continue
            assert self._running is not None
            code = self._running.process.returncode
            if code is not None and code != -signal.SIGKILL and not self._was_told:
                self._ends.append(End(self.name, time.monotonic(), code))
                log.info("%s ended by itself with %d", self.name, code)
            await asyncio.sleep(RESTART_S)
            if not self._holds:
                await self._begin()

    async def _begin(self) -> None:
        self._was_told = False
        if self._ready:
            self._ready.unlink(missing_ok=True)
        try:
            self._running = await RunningService.start(self._service, self._log, self._environment)
        except StackError:
            log.exception("%s did not start", self.name)

    def _family(self) -> list[psutil.Process]:
        pid = self.pid
        if pid is None:
            return []
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            return [process, *process.children(recursive=True)]
        return []
