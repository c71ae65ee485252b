"""One simulation: the servers, the processes and their supervisor, the clients, the faults, and the end."""

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from schemas import topics
from schemas.codec import encode
from streams.instruments import Instruments
from tests.simulation import faults, processes, workload
from tests.simulation.artifacts import SimArtifacts
from tests.simulation.clock import virtual_clock
from tests.simulation.faults import CALM_S, Fault, Scenario, Sort
from tests.simulation.group import HEARTBEATS, PLACES, Coordinator
from tests.simulation.handlers import handlers
from tests.simulation.invariants import Monitor
from tests.simulation.kafka import Broker
from tests.simulation.loop import Process, SimLoop
from tests.simulation.postgres import LONGEST_PART, Postgres, Weather
from tests.simulation.processes import NoMetrics, Parts, Site, WorkerCounts
from tests.simulation.workload import SentWish, Submission

#: How long after the last fault everything has to have ended.
DRAIN_S: Final = 120.0
CHECK_S: Final = 1.0
#: Then repeats and stale writes have this time to show themselves.
AFTERMATH_S: Final = 3.0
#: The clocks on the processes' walls differ by so much.
SKEW_S: Final = 2.0

Main = Callable[[Site, asyncio.Event], Coroutine[Any, Any, None]]


@dataclass(frozen=True)
class Report:
    """What a simulation came to; ``trace_hash`` is the same for the same seed and code."""

    seed: int
    violations: tuple[tuple[str, str], ...]
    trace_hash: str
    callbacks: int
    lasted_s: float
    trace: tuple[str, ...]


class Post:
    """A place for one process after the other, as a supervisor keeps it."""

    def __init__(self, world: "World", name: str, main: Main) -> None:
        self.process: Process | None = None
        self.wanted = False
        self._world = world
        self._name = name
        self._main = main
        self._lives = 0
        self._stop = asyncio.Event()

    def start(self) -> None:
        """Start a process, unless one is there."""
        self.wanted = True
        if self.process is None:
            world = self._world
            self._lives += 1
            self.process = process = Process(f"{self._name}.{self._lives}", world.rng.uniform(-SKEW_S, SKEW_S))
            self._stop = asyncio.Event()
            world.monitor.note(f"start {process.name}")
            task = world.loop.spawn(process, self._main(world.site, self._stop))
            task.add_done_callback(lambda task: self._ended(process, task), context=process.context)

    def stop(self) -> None:
        """SIGTERM."""
        if self.process:
            self._world.monitor.disturb(self.process, "stop")
            self._world.loop.call_in(self.process, 0.0, self._stop.set)

    def kill(self) -> None:
        """SIGKILL."""
        if self.process:
            self._world.monitor.disturb(self.process, "kill")
            self.process.alive = False
            self._gone()

    def freeze(self, lasts_s: float) -> None:
        """SIGSTOP, and SIGCONT after a while."""
        process = self.process
        if process:
            self._world.monitor.disturb(process, "freeze", lasts_s)
            process.frozen = True
            self._world.loop.call_in(self._world.process, lasts_s, self._world.loop.resume, process)

    def _ended(self, process: Process, task: "asyncio.Task[None]") -> None:
        if process.alive and not task.cancelled():
            error = task.exception()
            self._world.monitor.ended(process, error)
            process.alive = False
            self._gone()

    def _gone(self) -> None:
        self.process = None
        if self.wanted:
            self._world.loop.call_in(self._world.process, self._world.rng.uniform(0.3, 1.5), self._restart)

    def _restart(self) -> None:
        if self.wanted:
            self.start()


class World:
    """Everything of one simulation."""

    def __init__(self, seed: int, parts: Parts, *, trace: bool) -> None:
        self.rng = random.Random(seed)
        self.process = Process("world")
        self.loop = SimLoop(random.Random(seed + 1))
        servers = random.Random(seed + 2)
        self.postgres = Postgres(self.loop, servers, self.process)
        self.broker = Broker(self.loop, servers, self.process)
        self.scenario: Scenario = faults.draw(self.rng)
        self.load = workload.draw(self.rng)
        coordinator = Coordinator(self.broker, (HEARTBEATS, *PLACES))
        self.monitor = Monitor(self.loop, self.postgres, self.broker, self.load, trace=trace)
        self.site = Site(
            self.postgres,
            self.broker,
            coordinator,
            WorkerCounts(self.monitor.unwanted),
            _instruments(),
            handlers(self.load.plans, self.monitor),
            SimArtifacts(),
            parts,
            self.monitor.employ,
            self.monitor.dispatches,
        )
        self.broker.duplicates = self.scenario.duplicates
        self.workers = [Post(self, f"worker{number}", processes.worker) for number in range(3)]
        self.dispatchers = [Post(self, f"dispatcher{number}", processes.dispatcher) for number in range(3)]
        self.monitor.on_kill = self._kill
        self.loop.on_fuse = self._burnt
        self._fuses: dict[Process, Fault] = {}

    async def run(self) -> None:
        """From the first process to the last check."""
        for post in (self.dispatchers[0], *self.workers[: self.scenario.workers]):
            post.start()
        sending = [self._send(self.load.submissions), self._wish(self.load.wishes)]
        clients = [asyncio.create_task(client) for client in sending]
        watch = asyncio.create_task(self._watch())
        for fault in self.scenario.faults:
            await asyncio.sleep(max(0.0, fault.at_s - self.loop.time()))
            self._strike(fault)
        last_s = max((fault.at_s + fault.lasts_s for fault in self.scenario.faults), default=0.0)
        await asyncio.sleep(max(0.0, min(last_s, CALM_S) - self.loop.time()))
        self._calm()
        until_s = self.loop.time() + DRAIN_S
        watch.cancel()
        while self.loop.time() < until_s and not self.monitor.violations:
            await asyncio.sleep(CHECK_S)
            self._check()
            if all(client.done() for client in clients) and self.monitor.settled():
                await asyncio.sleep(AFTERMATH_S)
                break
        self.monitor.conclude()
        for client in clients:
            client.cancel()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(CHECK_S)
            self._check()

    def _check(self) -> None:
        workers = [post.process for post in self.workers if post.process]
        self.monitor.check_partitions(workers)
        self.monitor.check_waiting(workers)

    async def _send(self, submissions: list[Submission]) -> None:
        for submission in submissions:
            await asyncio.sleep(max(0.0, submission.at_s - self.loop.time()))
            await self.broker.reachable()
            place = (workload.topic_of(submission), self.rng.randrange(3))
            offset = self.broker.append(place, None, submission.value, ())
            self.monitor.sent(submission, place, offset)

    async def _wish(self, wishes: list[SentWish]) -> None:
        for wish in wishes:
            await asyncio.sleep(max(0.0, wish.at_s - self.loop.time()))
            await self.broker.reachable()
            name, key = topics.CONTROL.name, wish.event.job_id.encode()
            self.broker.append((name, self.broker.partition_of(name, key)), key, encode(wish.event), ())

    def _strike(self, fault: Fault) -> None:
        self.monitor.note(f"fault {fault.sort.value} for {fault.lasts_s:.3f} s")
        owner = faults.touches(fault.sort)
        if owner in ("postgres", "kafka"):
            self._change_weather(fault, self.postgres.weather if owner == "postgres" else self.broker.weather)
            return
        posts = self.workers if owner == "worker" else self.dispatchers
        running = [post for post in posts if post.process and post.process.runs]
        if fault.sort is Sort.SCALE_DISPATCHERS:
            for post in self.dispatchers:
                post.start()
            self.loop.call_in(self.process, fault.lasts_s, self._scale_down)
        elif running:
            victim = running[fault.victim % len(running)]
            if fault.sort in (Sort.STOP_WORKER, Sort.STOP_DISPATCHER):
                victim.stop()
            elif victim.process:
                self._fuses[victim.process] = fault
                victim.process.fuse = fault.fuse

    def _burnt(self, process: Process) -> None:
        fault = self._fuses.pop(process)
        for post in (*self.workers, *self.dispatchers):
            if post.process is process:
                if fault.sort in (Sort.KILL_WORKER, Sort.KILL_DISPATCHER):
                    post.kill()
                else:
                    post.freeze(fault.lasts_s)

    def _kill(self, process: Process) -> None:
        for post in self.workers:
            if post.process is process:
                post.kill()

    def _scale_down(self) -> None:
        for post in self.dispatchers[1:]:
            post.wanted = False
            post.stop()

    def _change_weather(self, fault: Fault, weather: Weather) -> None:
        match fault.sort:
            case Sort.POSTGRES_AWAY | Sort.KAFKA_AWAY:
                weather.away = True
                if fault.sort is Sort.POSTGRES_AWAY:
                    self.postgres.crash()
            case Sort.POSTGRES_FLAKY | Sort.KAFKA_FLAKY:
                weather.refused = weather.lost = 0.2
            case _:
                weather.latency_s = 0.15
        self.monitor.disturb_all(fault.lasts_s)
        self.loop.call_in(self.process, fault.lasts_s, self._clear, fault, weather)

    def _clear(self, fault: Fault, weather: Weather) -> None:
        self.monitor.note(f"over: {fault.sort.value}")
        fresh = Weather()
        # What is on its way while a server is slow may arrive long after.
        lasts_s = LONGEST_PART * weather.latency_s if weather.latency_s > fresh.latency_s else 0.0
        weather.away, weather.refused, weather.lost = fresh.away, fresh.refused, fresh.lost
        weather.latency_s = fresh.latency_s
        self.monitor.disturb_all(lasts_s)

    def _calm(self) -> None:
        self.monitor.calm()
        self._fuses.clear()
        for post in (*self.workers, *self.dispatchers):
            if post.process:
                post.process.fuse = None
        for post in (self.dispatchers[0], self.workers[0]):
            post.start()


@cache
def _instruments() -> Instruments:
    return Instruments(NoMetrics("simulation"))


def simulate(seed: int, parts: Parts | None = None, *, trace: bool = False) -> Report:
    """Run one simulation. Besides what it was made of, nothing but the seed decides what happens."""
    state = random.getstate()
    # The jitter of the code under test.
    random.seed(seed + 3)
    level = logging.root.manager.disable
    if not trace:
        logging.disable(logging.CRITICAL)
    try:
        with virtual_clock():
            world = World(seed, parts or Parts(), trace=trace)
            world.loop.run(world.process, world.run())
            world.postgres.closed = world.broker.closed = True
            monitor = world.monitor
            monitor.closed = True
            report = Report(
                seed,
                tuple(monitor.violations),
                monitor.trace_hash(),
                world.loop.callbacks,
                world.loop.time(),
                tuple(monitor.trace),
            )
            world.loop.dispose()
            return report
    finally:
        logging.disable(level)
        random.setstate(state)
