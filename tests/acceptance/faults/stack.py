"""The stack under test: three brokers, Redis, Postgres, two dispatchers and three workers, all kept running."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

import psycopg2

from deploy.local.orphans import adopt_orphans, kill_orphans
from deploy.local.paths import StackPaths
from deploy.local.ports import LOOPBACK, free_ports
from deploy.local.process import last_lines, run_step
from deploy.local.processes import process, python
from deploy.local.servers.kafka import bootstrap, kafka
from deploy.local.servers.postgres import find_home, postgres
from deploy.local.servers.redis import answers_ping, redis
from deploy.local.service import Service, StackError
from tests.acceptance.faults import clocks, disks, network
from tests.acceptance.faults.evidence import End, Unreached, Window
from tests.acceptance.faults.member import RESTART_S, Healthy, Member
from tests.acceptance.faults.proxy import Proxy
from tests.acceptance.faults.schedule import (
    ALL_DISPATCHERS,
    BROKERS,
    CLOCKED,
    DISPATCHERS,
    POSTGRES,
    REDIS,
    WORKERS,
    Means,
)

#: Short, so that a lease runs out within a schedule, and long enough for two busy cores.
LEASE_S: Final = 5.0
EXTRA_DISPATCHERS: Final = ("dispatcher-3", "dispatcher-4")
#: Groups by which the kernel tells the processes apart.
GROUPS: Final = {
    name: network.FIRST_GROUP + number
    for number, name in enumerate((*BROKERS, *DISPATCHERS, *EXTRA_DISPATCHERS, *WORKERS), start=1)
}
CONNECT_S: Final = 2
#: From the end of a run until every process serves; a start takes seconds, on a busy machine some more.
HEALTHY_S: Final = 90.0
#: In which a process that is asked writes what its threads are at, and how much of its log is told then.
TELL_S: Final = 1.0
TOLD_LINES: Final = 120
#: Little of the write-ahead log is kept: its disk is small.
POSTGRES_OPTIONS: Final = ("-c", "max_wal_size=64MB", "-c", "min_wal_size=32MB")


class FaultStack:
    """Every process of the stack by its name, and the ways to each; ``means`` are those that this machine has."""

    def __init__(self, directory: Path, means: frozenset[Means]) -> None:
        self.directory = directory
        self.means = means
        self.isolated = Means.NAMESPACES in means
        self._bug = directory / "bug"
        #: Points of a crash that nobody came by, faults that could not be made, and processes that ended by themselves.
        self.unreached: list[Unreached] = []
        self.impotent: list[str] = []
        self.ends: list[End] = []
        #: The faults of the run before.
        self.windows_before: tuple[Window, ...] = ()
        self._paths = StackPaths(directory)
        numbers = iter(free_ports(2 * len(BROKERS) + 4))
        self.listeners = {name: (next(numbers), next(numbers)) for name in BROKERS}
        self._ports = {REDIS: next(numbers), POSTGRES: next(numbers)}
        self._proxy_ports = {REDIS: next(numbers), POSTGRES: next(numbers)}
        self.proxies = {name: Proxy(port) for name, port in self._ports.items()}
        self.members: dict[str, Member] = {}
        #: Workers of another release than this one.
        self.releases: dict[str, str] = {}
        self.executions = directory / "executions"
        self.crashes = directory / "crashes"

    @asynccontextmanager
    async def running(
        self, dispatchers: Sequence[str] = DISPATCHERS, workers: Sequence[str] = WORKERS
    ) -> AsyncIterator[None]:
        """All of it, for the block; nothing of it is left afterwards.

        Raises:
            StackError: some part did not start.
        """
        adopt_orphans()
        self._prepare()
        try:
            await self._start_all([*self._brokers(), self._redis(), self._postgres()])
            for name, proxy in self.proxies.items():
                await proxy.open(self._proxy_ports[name])
            for step in (("producers", "topics", "create"), ("runtime.database", "upgrade")):
                await run_step(step[0], python(*step), self._paths.log(step[0]), self.servers)
            await self._start_all([self._dispatcher(name) for name in dispatchers])
            await self._start_all([self._worker(name) for name in workers])
            yield
        finally:
            for names in (WORKERS, (*DISPATCHERS, *EXTRA_DISPATCHERS), (*BROKERS, REDIS, POSTGRES)):
                await asyncio.gather(*(self.members[name].stop() for name in names if name in self.members))
            for proxy in self.proxies.values():
                await proxy.close()
            kill_orphans()
            if self.isolated:
                for name in (*BROKERS, POSTGRES):
                    disks.unmount(self.disk(name))

    @property
    def servers(self) -> Mapping[str, str]:
        """The servers' own addresses, for the test itself."""
        return self._addresses(self._ports)

    @property
    def dsn(self) -> str:
        """Postgres, for psycopg2."""
        return self.servers["HEADRACE_DATABASE"].replace("+psycopg2", "")

    def ports(self, server: str) -> tuple[int, ...]:
        """Where the processes reach a server: ``kafka`` for all brokers, else one of them, Redis or Postgres."""
        if server == "kafka":
            return tuple(port for port, _ in self.listeners.values())
        return self.listeners[server] if server in self.listeners else (self._proxy_ports[server],)

    def disk(self, name: str) -> Path:
        """The disk of one server."""
        return self._paths.postgres if name == POSTGRES else self.directory / "kafka" / f"node-{name[-1]}"

    def log(self, name: str) -> Path:
        """What a process has written."""
        return self._paths.log(name)

    def clock(self, name: str) -> Path:
        """The file that sets a process' clock off."""
        return self.directory / f"clock-{name}"

    async def healthy(self) -> None:
        """Wait until every process serves."""
        await asyncio.gather(*(member.serving() for member in self.members.values()))

    async def healthy_soon(self) -> None:
        """As ``healthy``, but not for ever.

        Raises:
            StackError: a process does not serve; with what it wrote last, and what its threads are at if it is ours.
        """
        waits = {name: asyncio.create_task(member.serving()) for name, member in self.members.items()}
        _, late = await asyncio.wait(waits.values(), timeout=HEALTHY_S)
        names = [name for name, wait in waits.items() if wait in late]
        for wait in late:
            wait.cancel()
        if names:
            self.ask(names)
            await asyncio.sleep(TELL_S)
            ends = "\n".join(last_lines(self.log(name), TOLD_LINES) for name in names)
            raise StackError(f"{', '.join(names)}: not serving after {HEALTHY_S:.0f} s\n{ends}")

    def ask(self, names: Sequence[str]) -> None:
        """Have those of the processes that are ours write to their logs what their threads are at."""
        for name in {*names} & {*DISPATCHERS, *WORKERS} & self.members.keys():
            if pid := self.members[name].pid:
                os.kill(pid, signal.SIGUSR1)

    @asynccontextmanager
    async def joined(self, name: str) -> AsyncIterator[Member]:
        """One more dispatcher or worker for the block; not waited for."""
        member = self._worker(name) if name in WORKERS else self._dispatcher(name)
        starting = asyncio.create_task(member.start())
        try:
            yield member
        finally:
            starting.cancel()
            # Not awaited itself: its cancellation could not be told from ours.
            await asyncio.wait([starting])
            await member.stop()

    async def plant(self, bug: str) -> None:
        """Start dispatchers and workers anew, with a bug or, for an empty name, without; all jobs are forgotten."""
        self._bug.unlink(missing_ok=True)
        if bug:
            self._bug.write_text(bug)
        async with AsyncExitStack() as down:
            for name in (*DISPATCHERS, *WORKERS):
                await down.enter_async_context(self.members[name].down())
            # What the bug before has left would go on under the next.
            await asyncio.to_thread(_execute, self.dsn, "TRUNCATE jobs, outbox CASCADE")
        await asyncio.sleep(RESTART_S)
        await self.healthy_soon()

    def crash_file(self, target: str) -> Path:
        """Holds the point at which a worker, or whichever dispatcher gets there first, is to die."""
        return self.crashes / target

    async def _start_all(self, members: Sequence[Member]) -> None:
        self.members.update({member.name: member for member in members})
        await asyncio.gather(*(member.start() for member in members))

    def _prepare(self) -> None:
        for folder in (self._paths.logs, self._paths.ready, self._paths.store, self.executions, self.crashes):
            folder.mkdir(parents=True, exist_ok=True)
        if self.isolated:
            network.prepare(list(GROUPS.values()))
            for name in (*BROKERS, POSTGRES):
                disks.mount(self.disk(name))

    def _brokers(self) -> Iterator[Member]:
        services = kafka(self.directory / "kafka", list(self.listeners.values()))
        for name, service in zip(BROKERS, services, strict=True):
            yield self._server(self._grouped(service), partial(_listens, self.listeners[name][0]))

    def _redis(self) -> Member:
        port = self._ports[REDIS]
        return self._server(redis(self.directory / "redis", port), partial(answers_ping, port))

    def _postgres(self) -> Member:
        home = find_home(self._paths.postgres)
        service = postgres(home, self._ports[POSTGRES], durable=True)
        command = replace(service.command, argv=(*service.command.argv, *POSTGRES_OPTIONS))
        return self._server(replace(service, command=command), partial(asyncio.to_thread, _answers, self.dsn))

    def _dispatcher(self, name: str) -> Member:
        (port,) = free_ports(1)
        own = {"HEADRACE_METRICS_PORT": str(port), "FAULTS_CRASH": str(self.crash_file(ALL_DISPATCHERS))}
        return self._process(name, "tests.acceptance.faults.dispatcher", own)

    def _worker(self, name: str) -> Member:
        own = {
            "HEADRACE_CACHE_DIR": str(self._paths.cache / name),
            "HEADRACE_GENERATE_SLOTS": "16",
            "FAULTS_CRASH": str(self.crash_file(name)),
            "FAULTS_RELEASE": self.releases.get(name, ""),
        }
        return self._process(name, "tests.acceptance.faults.worker", own)

    def _process(self, name: str, module: str, own: Mapping[str, str]) -> Member:
        environment = {
            "HEADRACE_LEASE_S": str(LEASE_S),
            "HEADRACE_HOST": name,
            "FAULTS_EXECUTIONS": str(self.executions),
            "FAULTS_BUG": str(self._bug),
            **own,
            **(clocks.environment(self.clock(name)) if name in CLOCKED else {}),
        }
        service = process(name, module, self._paths, environment, stop_rank=1)
        addresses = self._addresses(self._proxy_ports)
        log_path, ready = self._paths.log(name), self._paths.ready / name
        return Member(self._grouped(service), log_path, addresses, service.is_healthy, self.ends, ready)

    def _server(self, service: Service, serves: Healthy) -> Member:
        return Member(service, self._paths.log(service.name), {}, serves, self.ends)

    def _grouped(self, service: Service) -> Service:
        if not self.isolated:
            return service
        argv = ("setpriv", "--groups", str(GROUPS[service.name]), "--", *service.command.argv)
        return replace(service, command=replace(service.command, argv=argv))

    def _addresses(self, ports: Mapping[str, int]) -> Mapping[str, str]:
        return {
            "HEADRACE_KAFKA": bootstrap(list(self.listeners.values())),
            "HEADRACE_REDIS": f"redis://{LOOPBACK}:{ports[REDIS]}/0",
            "HEADRACE_DATABASE": find_home(self._paths.postgres).url(ports[POSTGRES]),
        }


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(LOOPBACK, port)
    except OSError:
        return False
    writer.close()
    return True


def _answers(dsn: str) -> bool:
    """Asked of the server itself: its file says "ready" even when it was killed."""
    try:
        _execute(dsn, "SELECT 1")
    except psycopg2.OperationalError:
        return False
    return True


def _execute(dsn: str, statement: str) -> None:
    with (
        closing(psycopg2.connect(dsn, connect_timeout=CONNECT_S)) as connection,
        connection,
        connection.cursor() as cursor,
    ):
        cursor.execute(statement)
