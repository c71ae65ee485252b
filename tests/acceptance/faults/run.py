"""One run: the schedule of a seed against the stack, then a drain, then the verdict."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

import psycopg2

from schemas import topics
from schemas.events import FINAL_STATES
from tests.acceptance.faults import ledger, verdict
from tests.acceptance.faults.evidence import LEAVE, PAUSE, Evidence, JobRow, Key, Window
from tests.acceptance.faults.executions import read_executions
from tests.acceptance.faults.ledger import TopicReader
from tests.acceptance.faults.line import RunLine, shown, told
from tests.acceptance.faults.load import Load, Outcome
from tests.acceptance.faults.schedule import WORKERS, Fault, Schedule, Strike
from tests.acceptance.faults.stack import LEASE_S, FaultStack
from tests.acceptance.faults.strikes import inflicted, workers_struck

log = logging.getLogger(__name__)

#: How long the stack may go without ending any job, from the end of the last fault until nothing is left to do.
DRAIN_S: Final = 30.0
#: How often the machine's own pauses are looked for, and how long one is that may cost anybody a lease.
PULSE_S: Final = 0.2
PAUSE_S: Final = 1.0
#: How long after a fault its processes are waited for; the load goes on meanwhile.
REPAIR_S: Final = 10.0
#: How long its last events may take to reach the ledger's readers.
READ_S: Final = 10.0
POLL_S: Final = 0.25
#: How often the ledger reads the tables while the faults hold.
LOOK_S: Final = 1.0
#: How often a drain that goes on tells what it waits for, and how many of these.
TELL_S: Final = 15.0
LEFT: Final = 5


class Run:
    """The schedule of one seed, on a stack that is healthy and stays so."""

    def __init__(self, schedule: Schedule, stack: FaultStack) -> None:
        self._schedule = schedule
        self._stack = stack
        bootstrap = stack.servers["HEADRACE_KAFKA"]
        # Tenants of its own, so that runs share nothing but the stack.
        self._load = Load(bootstrap, schedule.seed, f"s{schedule.seed}-{time.monotonic_ns() % 1_000_000}")
        self._windows: list[Window] = []
        #: When the faults began that are not repaired yet.
        self._begun_s: dict[Strike, float] = {}
        self._repairs: list[asyncio.Task[None]] = []
        self._jobs: dict[Key, JobRow] = {}
        self._settled_s: dict[Key, float] = {}
        self._regressions: list[tuple[Key, str]] = []
        self._started_s = 0.0

    async def result(self) -> RunLine:
        """Run it, and judge."""
        self._started_s = time.monotonic()
        self._stack.unreached.clear()
        self._stack.impotent.clear()
        bootstrap = self._stack.servers["HEADRACE_KAFKA"]
        everything = (topics.RESULTS, topics.STATUS, *topics.DEAD_LETTERS.values())
        with (
            TopicReader(bootstrap, [topics.RESULTS], "read_committed") as committed,
            TopicReader(bootstrap, everything, "read_uncommitted") as uncommitted,
        ):
            pulse = asyncio.create_task(self._feel_pulse())
            await self._strike_all()
            drain_begun_s = time.monotonic()
            await self._drain(committed, uncommitted)
            drained_s = time.monotonic() - drain_begun_s
            for task in (pulse, *self._repairs):
                task.cancel()
            evidence = self._evidence(committed, uncommitted)
        self._stack.windows_before = evidence.windows
        return told(self._schedule, evidence, drained_s, time.monotonic() - self._started_s)

    @contextmanager
    def leaving(self, worker: str) -> Iterator[None]:
        """A worker is told to leave in the block: it gives its jobs back, which go on elsewhere in the same attempt."""
        begun_s = time.monotonic()
        try:
            yield
        finally:
            self._windows.append(Window(begun_s, time.monotonic(), frozenset({worker}), LEAVE))

    async def _strike_all(self) -> None:
        beside = [asyncio.create_task(self._load.run(self._schedule.end_s)), asyncio.create_task(self._watch())]
        try:
            async with asyncio.TaskGroup() as striking:
                for strike in self._schedule.strikes:
                    striking.create_task(self._strike(strike))
                await asyncio.sleep(self._schedule.end_s)
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
        await self._load.wanting.resume_all()
        await asyncio.to_thread(self._load.close)

    async def _strike(self, strike: Strike) -> None:
        await asyncio.sleep(strike.at_s)
        log.info("%s: %s for %.1f s", strike.fault, strike.target, strike.for_s)
        self._begun_s[strike] = time.monotonic()
        async with inflicted(strike, self._stack, self._load):
            await asyncio.sleep(strike.for_s)
        # What the fault has done lasts until the process serves again.
        repairing = asyncio.create_task(self._repaired(strike))
        self._repairs.append(repairing)
        await asyncio.wait([repairing], timeout=REPAIR_S)

    async def _repaired(self, strike: Strike) -> None:
        await self._stack.healthy()
        log.info("%s: %s is over", strike.fault, strike.target)
        self._windows.append(self._window(strike, self._begun_s.pop(strike)))

    def _window(self, strike: Strike, begun_s: float) -> Window:
        """The time of a fault until now."""
        leaves = strike.fault is Fault.RESTART and strike.target in WORKERS
        return Window(begun_s, time.monotonic(), workers_struck(strike), LEAVE if leaves else strike.fault)

    async def _drain(self, committed: TopicReader, uncommitted: TopicReader) -> None:
        """Wait until nothing is left to do, and the readers have all of it."""
        clock = asyncio.get_running_loop().time
        told_s = begun_s = clock()
        try:
            async with asyncio.timeout(DRAIN_S) as patience:
                while not self._is_done(committed, uncommitted):
                    await asyncio.sleep(POLL_S)
                    if clock() - told_s > TELL_S:
                        told_s = clock()
                        log.info("left after %.0f s: %s", told_s - begun_s, self._left(committed, uncommitted))
                    before = self._unfinished()
                    await self._look()
                    if self._unfinished() != before:
                        # On a machine that others keep busy the drain is slow, but it gets somewhere.
                        patience.reschedule(asyncio.get_running_loop().time() + DRAIN_S)
        except TimeoutError:
            with suppress(psycopg2.Error):
                found = await asyncio.to_thread(ledger.unfinished, self._stack.dsn)
                log.warning("something is left to do: %s", found)
        with suppress(TimeoutError):
            async with asyncio.timeout(READ_S):
                for reader in (committed, uncommitted):
                    while not await asyncio.to_thread(reader.has_all):  # noqa: ASYNC110  (Kafka says so)
                        await asyncio.sleep(POLL_S)
        await self._look()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            await self._look()

    async def _feel_pulse(self) -> None:
        """Note when nobody got the processor: a machine that is overloaded takes leases as a fault does."""
        while True:
            begun_s = time.monotonic()
            await asyncio.sleep(PULSE_S)
            if time.monotonic() - begun_s > PAUSE_S:
                self._windows.append(Window(begun_s - LEASE_S, time.monotonic(), frozenset(WORKERS), PAUSE))

    async def _look(self) -> None:
        """Read the tables, and note what they take back; they may not answer now."""
        with suppress(psycopg2.Error):
            jobs = await asyncio.to_thread(ledger.read_jobs, self._stack.dsn, self._load.tenants)
            self._regressions.extend(ledger.regressions(self._jobs, jobs))
            self._jobs, now_s = jobs, time.monotonic()
            for key, job in jobs.items():
                if job.result_status is not None and not job.in_outbox:
                    self._settled_s.setdefault(key, now_s)

    def _left(self, committed: TopicReader, uncommitted: TopicReader) -> str:
        """What the drain waits for, in words."""
        states = Counter(f"{job.state}{' in the outbox' * job.in_outbox}" for job in self._jobs.values())
        evidence = self._evidence(committed, uncommitted)
        waits = [shown(item) for item in (*verdict.lost(evidence), *verdict.unseen(evidence))]
        return f"{dict(states)}; {len(waits)} to see: {waits[:LEFT]}"

    def _unfinished(self) -> int:
        return sum(job.state not in FINAL_STATES or job.in_outbox for job in self._jobs.values())

    def _is_done(self, committed: TopicReader, uncommitted: TopicReader) -> bool:
        if not self._jobs or self._unfinished():
            return False
        evidence = self._evidence(committed, uncommitted)
        return not any((*verdict.lost(evidence), *verdict.unseen(evidence)))

    def _evidence(self, committed: TopicReader, uncommitted: TopicReader) -> Evidence:
        tenants = self._load.tenants
        letters = [message for topic in topics.DEAD_LETTERS.values() for message in uncommitted.messages(topic)]
        return Evidence(
            operations=tuple(self._load.operations),
            outcomes={
                operation.number: self._load.outcomes.get(operation.number, Outcome.UNKNOWN)
                for operation in self._load.operations
            },
            jobs=self._jobs,
            settled_s=self._settled_s,
            committed=tuple(ledger.terminals(committed.messages(topics.RESULTS), tenants)),
            uncommitted=tuple(ledger.terminals(uncommitted.messages(topics.RESULTS), tenants)),
            regressions=tuple(self._regressions),
            statuses=tuple(ledger.statuses(uncommitted.messages(topics.STATUS), tenants)),
            letters=tuple(ledger.letters(letters)),
            executions=tuple(read_executions(self._stack.executions, tenants)),
            wishes=tuple(self._load.wanting.wished),
            windows=(*self._windows, *(self._window(strike, at_s) for strike, at_s in self._begun_s.items())),
            windows_before=self._stack.windows_before,
            unreached=tuple(self._stack.unreached),
            impotent=tuple(self._stack.impotent),
            ends=tuple(end for end in self._stack.ends if end.at_s >= self._started_s),
        )
