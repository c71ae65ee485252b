"""The promises, as they are checked while a simulation runs.

Each has a name, under which a violation is reported: it tells which bug of the zoo was caught by which.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from schemas import topics
from schemas.errors import HeadraceError
from schemas.events import State
from schemas.topics import Kind
from tests.simulation.clock import at
from tests.simulation.conclusion import Conclusion
from tests.simulation.journal import Journal
from tests.simulation.kafka import Broker, Place, SimRecord
from tests.simulation.loop import Process, SimLoop
from tests.simulation.postgres import Postgres
from tests.simulation.processes import LEASE_S, SETTINGS
from tests.simulation.statements import Statement
from tests.simulation.tables import Key, Tables, Transaction
from tests.simulation.transitions import ATTEMPTS, Transitions, is_final
from tests.simulation.workload import Submission, Workload
from workers.context import JobContext
from workers.worker import Worker

#: How long a worker may go on with a job that it has lost: the time to its next renewal, and some steps.
STOP_S: Final = LEASE_S / 3 + 3.0
#: How long a job may wait in a calm world while a slot for it is free.
WAIT_S: Final = 12.0
#: The same where last attempts are about: one that runs, and before it the wait for its worker's other jobs.
LONE_S: Final = 26.0
#: A fault so long ago explains nothing any more.
ECHO_S: Final = 2 * LEASE_S
SLOTS: Final = {
    Kind.GENERATE: SETTINGS.generate_slots,
    Kind.FINETUNE: SETTINGS.finetune_slots,
    Kind.EVALUATE: SETTINGS.evaluate_slots,
}


@dataclass(eq=False)
class Run:
    """A handler that runs: for which lease, where."""

    key: Key
    epoch: int
    process: Process


class Monitor:
    """Sees every transaction, every record and every handler."""

    def __init__(self, loop: SimLoop, postgres: Postgres, broker: Broker, load: Workload, *, trace: bool) -> None:
        self._loop = loop
        self._tables = postgres.tables
        self._journal = Journal(loop, trace=trace)
        self._transitions = Transitions(loop, self._journal, postgres.tables)
        self._conclusion = Conclusion(self._journal, self._transitions, postgres.tables, broker, load)
        self._workers: dict[Process, Worker] = {}
        self._runs: defaultdict[Key, list[Run]] = defaultdict(list)
        self._begun: set[tuple[Key, int, Process]] = set()
        self._calm_s: float | None = None
        self._owned_s: dict[Process, float] = {}
        #: When the slots of a kind were all taken last.
        self._full_s: dict[Kind, float] = defaultdict(float)
        self._dispatches_s = 0.0
        self.on_kill: Callable[[Process], None] = lambda _process: None
        self.closed = False
        postgres.execute = self._execute
        postgres.on_stranger = lambda name: self._journal.violate("model", name)
        broker.on_append = self._appended
        self.note = self._journal.note
        self.violations = self._journal.violations
        self.trace = self._journal.trace
        self.trace_hash = self._journal.trace_hash
        self.settled = self._conclusion.settled
        self.conclude = self._conclusion.conclude

    def calm(self) -> None:
        """No more faults from now on."""
        self._journal.note("calm")
        self._journal.fault(None)
        self._calm_s = self._loop.time()

    def disturb(self, process: Process, how: str, lasts_s: float = 0.0) -> None:
        """A fault meets a process."""
        self._journal.note(f"{how} {process.name}")
        self._journal.fault(process, lasts_s)

    def disturb_all(self, lasts_s: float) -> None:
        """A fault meets everybody."""
        self._journal.fault(None, lasts_s)

    def ended(self, process: Process, error: BaseException | None) -> None:
        """A process has ended by itself: to its end, or by an error."""
        self._journal.note(f"end {process.name} {error!r}")
        if error is not None and not isinstance(error, HeadraceError):
            # Whatever the servers do, it has a word of ours for it.
            self._journal.violate("alive", f"{process.name} ended by {error!r}, which no fault explains")
        elif error is not None and not self._journal.explained(self._loop.time() - ECHO_S, [process]):
            self._journal.violate("alive", f"{process.name} ended by {error!r} without any fault")
        self._journal.fault(process)

    def sent(self, submission: Submission, place: Place, offset: int) -> None:
        """A client's record was acknowledged."""
        self._conclusion.sent(submission, place, offset)

    def employ(self, process: Process, worker: Worker) -> None:
        """A worker begins."""
        self._workers[process] = worker
        self._conclusion.employ(worker.id, process)

    def dispatches(self) -> None:
        """A dispatcher was given the workers; the one that had them may still send them jobs."""
        self._dispatches_s = self._loop.time()

    def unwanted(self, process: Process, kind: str) -> None:
        """A worker was sent more than it ever asked for, and gives it back."""
        since_s = self._loop.time() - ECHO_S
        moved = self._dispatches_s >= since_s
        if not self.closed and not moved and not self._journal.explained(since_s, self._journal.met()):
            self._journal.violate("credits", f"{process.name} was sent more {kind} jobs than it ever had room for")

    def begin(self, process: Process, ctx: JobContext) -> Run:
        """A handler was called."""
        key = (ctx.job.tenant, ctx.job.id)
        row = self._tables.jobs[key]
        mine = row.worker_id == self._workers[process].id and row.attempt == ctx.job.attempt
        run = Run(key, row.epoch if mine else -1, process)
        self._journal.note(f"{'/'.join(key)} runs at {process.name}, attempt {ctx.job.attempt}")
        if mine and not self.closed:
            place = (key, run.epoch, process)
            if place in self._begun:
                self._journal.violate("runs once", f"{'/'.join(key)} ran twice under epoch {run.epoch}")
            self._begun.add(place)
        self._runs[key].append(run)
        worker_id, left_s = self._workers[process].id, self._transitions.left_s.get(key)
        if worker_id not in self._transitions.holders[key]:
            self._journal.violate("strangers", f"{'/'.join(key)} runs at {worker_id}, which never had its lease")
        if left_s is not None and (row.epoch == 0 or self._late(left_s, process)):
            self._journal.violate("cancel", f"{'/'.join(key)} begins, and it had ended while it waited")
        return run

    def resumed(self, run: object, position: int) -> None:
        """A handler has looked for its job's checkpoint, and begins after so many steps."""
        assert isinstance(run, Run)
        left = self._tables.position(run.key)
        # Whoever lost the lease meanwhile may have seen less.
        if run.epoch == self._tables.jobs[run.key].epoch and position != left and not self.closed:
            text = f"{'/'.join(run.key)} begins after step {position}, and its checkpoint is of step {left}"
            self._journal.violate("resumes", text)

    def step(self, run: object) -> None:
        """A handler goes on."""
        assert isinstance(run, Run)
        if self.closed:
            return
        where = f"{'/'.join(run.key)} goes on at {run.process.name}"
        lost_s = self._transitions.ended_s.get((run.key, run.epoch))
        if lost_s is not None and self._late(lost_s, run.process):
            self._journal.violate("stops", f"{where} {self._loop.time() - lost_s:.1f} s after its lease")
        deadline = self._tables.jobs[run.key].deadline
        if deadline and self._late((deadline - at(0.0)).total_seconds(), run.process):
            self._journal.violate("deadline", f"{where} long after its deadline")
        wished_s = self._transitions.wished_s.get(run.key)
        if wished_s is not None and self._late(wished_s, run.process):
            self._journal.violate("cancel", f"{where} {self._loop.time() - wished_s:.1f} s after it was cancelled")

    def end(self, run: object) -> None:
        """A handler has ended."""
        assert isinstance(run, Run)
        self._runs[run.key].remove(run)

    def kill(self, process: Process, reason: str) -> None:
        """A handler takes its process along."""
        if not self.closed:
            self._journal.note(f"{process.name} dies of {reason}")
            self.on_kill(process)

    def check_partitions(self, processes: Sequence[Process]) -> None:
        """No worker stays that has lost its partition."""
        for process in processes:
            worker = self._workers.get(process)
            if worker is None or worker.partition < 0 or not process.runs:
                continue
            row = self._tables.workers.get(worker.partition)
            if row and row.worker_id == worker.id:
                self._owned_s[process] = self._loop.time()
            elif self._late(self._owned_s.get(process, self._loop.time()), process):
                self._journal.violate("partitions", f"{process.name} stays, and partition {worker.partition} is gone")

    def _late(self, since_s: float, process: Process) -> bool:
        """Whether the process has had the time that it may take to hear of something."""
        now_s = self._loop.time()
        return now_s - since_s > STOP_S and not self._journal.explained(now_s - STOP_S, [process])

    def check_waiting(self, processes: Sequence[Process]) -> None:
        """No job waits while there is a slot for it."""
        if self._calm_s is None:
            return
        now_s = self._loop.time()
        workers = [process for process in processes if process.runs]
        rows = self._tables.jobs.values()
        leased = Counter(row.kind for row in rows if row.leased)
        for kind in Kind:
            if leased[kind] >= SLOTS[kind] * len(workers):
                # One job may keep a slot for as long as another may wait for a free one.
                self._full_s[kind] = now_s
        for row in rows:
            if row.state != State.QUEUED.value:
                continue
            # Those that went before it were given to workers meanwhile; a last attempt has a worker for itself.
            alone = any(other.lost_attempts >= ATTEMPTS - 1 and not is_final(other) for other in rows)
            kinds = list(Kind) if alone else [row.kind]
            went_on_s = max(self._transitions.leased_s[kind] for kind in kinds)
            went_on_s = max(went_on_s, self._transitions.lone_s, self._transitions.moved_s[row.key])
            since_s = max(went_on_s, self._full_s[row.kind], self._journal.quiet_since_s())
            if workers and now_s - since_s >= (LONE_S if alone else WAIT_S):
                self._journal.violate("liveness", f"{'/'.join(row.key)} waits for {now_s - since_s:.0f} s")

    def _execute(self, statement: Statement, arguments: tuple[Any, ...], tables: Tables, tx: Transaction) -> Any:
        return self._transitions.execute(statement, arguments, tables, tx)

    def _appended(self, record: SimRecord) -> None:
        name = "" if record.key is None else record.key.decode(errors="replace")
        self._journal.note(f"{record.topic}-{record.partition}@{record.offset} {name}")
        if record.topic == topics.RESULTS.name:
            self._conclusion.announced(record)
