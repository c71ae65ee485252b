"""What is due to every sender at the end, and what was announced meanwhile."""

from collections import defaultdict
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from runtime.database.admissions import Source, request_digest
from runtime.database.outbox import result_id
from schemas import topics
from schemas.codec import decode, decode_request, digest
from schemas.errors import RequestRefused
from schemas.events import Lease, State
from schemas.results import ResultEvent
from tests.simulation.handlers import answer, answered
from tests.simulation.journal import Journal
from tests.simulation.kafka import Broker, Place, SimRecord
from tests.simulation.loop import Process
from tests.simulation.tables import JobRow, Key, Tables
from tests.simulation.transitions import ATTEMPTS, FINAL, Transitions
from tests.simulation.workload import Ending, Fate, Submission, Workload

POISON: Final = "poison_job"
#: How far the clocks on the processes' walls are from Postgres', and a little more.
CLOCKS_APART: Final = timedelta(seconds=2.1)


@dataclass(frozen=True)
class _Sent:
    submission: Submission
    place: Place
    offset: int

    @property
    def source(self) -> Source:
        return Source(*self.place, self.offset)

    @property
    def name(self) -> str:
        return f"{self.place[0]}-{self.place[1]}@{self.offset}"


class Conclusion:
    """The ledger of what was sent and what came of it."""

    def __init__(
        self, journal: Journal, transitions: Transitions, tables: Tables, broker: Broker, load: Workload
    ) -> None:
        self._journal = journal
        self._transitions = transitions
        self._tables = tables
        self._broker = broker
        self._load = load
        self._sent: list[_Sent] = []
        self._announced: defaultdict[str, list[bytes | None]] = defaultdict(list)
        self._by_worker: dict[str, Process] = {}

    def sent(self, submission: Submission, place: Place, offset: int) -> None:
        """A client's record was acknowledged."""
        self._sent.append(_Sent(submission, place, offset))

    def employ(self, worker_id: str, process: Process) -> None:
        """Whose name this is."""
        self._by_worker[worker_id] = process

    def announced(self, record: SimRecord) -> None:
        """A terminal event lies in Kafka: it is stored, and says what is stored."""
        event_id = dict(record.headers).get("ce_id") or b""
        self._announced[event_id.decode()].append(record.value)
        event: ResultEvent = decode(ResultEvent, record.value or b"")
        key = (event.tenant, event.job_id)
        if event_id.decode() != result_id(*key):
            self._journal.violate("announced", f"the event of {'/'.join(key)} has the id {event_id!r}")
        stored = self._tables.results.get(key)
        if stored is None or stored.event != record.value:
            self._journal.violate("announced", f"the event of {'/'.join(key)} is not what is stored")
        row, said = self._tables.jobs.get(key), answered(event.result)
        plan = self._load.plans.get(key)
        if row and plan and said and said != answer(Lease(*key, row.epoch, ""), row.attempt, range(plan.steps)):
            self._journal.violate("whose result", f"{'/'.join(key)} in epoch {row.epoch} has that of {said}")

    def settled(self) -> bool:
        """Whether everything that was sent has come to its end."""
        return (
            len(self._sent) == len(self._load.submissions)
            and not self._tables.outbox
            and all(row.state in FINAL for row in self._tables.jobs.values())
            and self._answered()
        )

    def conclude(self) -> None:
        """Check everything that is due."""
        letters = self._dead_letters()
        for sent in self._sent:
            self._check(sent, letters)
        self._check_first()
        for key, row in self._tables.jobs.items():
            name = "/".join(key)
            if row.state not in FINAL:
                self._journal.violate("liveness", f"{name} is still {row.state}, attempt {row.attempt}")
                continue
            copies = self._announced.get(result_id(*key), [])
            if not copies:
                self._journal.violate("announced", f"the end of {name} was never announced")
            if len(copies) > 1:
                self._journal.violate("one copy", f"the end of {name} was announced {len(copies)} times")
            self._check_end(row)
        for key in self._tables.outbox:
            self._journal.violate("announced", f"{'/'.join(key)} is left in the outbox")

    def _answered(self) -> bool:
        letters = self._dead_letters()
        return all(sent.source in letters if self._due(sent) else self._has_job(sent) for sent in self._sent)

    def _has_job(self, sent: _Sent) -> bool:
        return sent.submission.key in self._tables.jobs

    def _due(self, sent: _Sent) -> bool:
        """Whether a dead letter is due to what was sent: it is unreadable, refused, or another's id."""
        if sent.submission.fate in (Fate.DEAD_LETTER, Fate.REFUSED):
            return True
        row = self._tables.jobs.get(sent.submission.key) if sent.submission.key else None
        return row is not None and row.request_sha256 != _digest(sent.submission)

    def _dead_letters(self) -> dict[Source, SimRecord]:
        found = {}
        for topic in topics.DEAD_LETTERS.values():
            for record in self._broker.topic(topic.name):
                headers = dict(record.headers)
                name, partition, offset = (headers[f"dlq.{part}"] or b"" for part in ("topic", "partition", "offset"))
                found[Source(name.decode(), int(partition), int(offset))] = record
        return found

    def _check(self, sent: _Sent, letters: dict[Source, SimRecord]) -> None:
        submission = sent.submission
        letter = letters.get(sent.source)
        if submission.key and not self._has_job(sent):
            self._journal.violate("nothing lost", f"{sent.name} has no job")
            return
        due = self._due(sent)
        if due and letter is None:
            self._journal.violate("nothing lost", f"{sent.name} has no dead letter")
        if letter and not due:
            self._journal.violate("conflict", f"{sent.name} is a dead letter, and it is the job's own request")
        if letter and letter.value != submission.value:
            self._journal.violate("nothing lost", f"the dead letter of {sent.name} has other bytes")

    def _check_first(self) -> None:
        """Of the requests of one id in one partition, the first has it."""
        first: dict[tuple[Key, str, int], _Sent] = {}
        for sent in sorted(self._sent, key=lambda sent: sent.source.offset):
            if sent.submission.key:
                first.setdefault((sent.submission.key, sent.source.topic, sent.source.partition), sent)
        for key, row in self._tables.jobs.items():
            own = [sent for (of, _, _), sent in first.items() if of == key]
            if len(own) == 1 and row.request_sha256 != _digest(own[0].submission):
                self._journal.violate("conflict", f"{'/'.join(key)} is not the job of {own[0].name}, which came first")

    def _check_end(self, row: JobRow) -> None:
        sent = [item for item in self._sent if item.submission.key == row.key]
        if not sent:
            self._journal.violate("tenants", f"nobody has asked for {'/'.join(row.key)}")
            return
        plan = self._load.plans.get(row.key)
        if plan is None or row.request is None:
            expected = {Fate.REFUSED: State.REJECTED, Fate.EXPIRES: State.EXPIRED}.get(sent[0].submission.fate)
            if row.state != (expected or State.REJECTED).value:
                self._journal.violate("ends as planned", f"{'/'.join(row.key)} is {row.state}")
            return
        poisoned = row.error_code == POISON
        if row.state == State.CANCELLED.value:
            if not self._load.cancelled(row.key):
                self._journal.violate("ends as planned", f"{'/'.join(row.key)} was cancelled, and nobody asked for it")
        elif row.state == State.EXPIRED.value:
            ended = row.finished_at
            if row.deadline is None or ended is None or ended < row.deadline - CLOCKS_APART:
                self._journal.violate("ends as planned", f"{'/'.join(row.key)} expired at {ended}, due {row.deadline}")
        elif plan.ending is Ending.KILLS:
            if not poisoned or row.attempt != ATTEMPTS:
                self._journal.violate("poison", f"{'/'.join(row.key)} ended {row.state} in attempt {row.attempt}")
        elif poisoned:
            if not self._lost_by_faults(row.key):
                self._journal.violate("innocents", f"{'/'.join(row.key)} ended as poison")
        elif row.state != (State.SUCCEEDED if plan.ending is Ending.SUCCEEDS else State.FAILED).value:
            self._journal.violate("ends as planned", f"{'/'.join(row.key)} ended {row.state}, {row.error_code}")

    def _lost_by_faults(self, key: Key) -> bool:
        """Whether as many attempts as may be were lost one after the other, and none of them got further."""
        losses = [loss for loss in self._transitions.losses if loss.key == key][-ATTEMPTS:]
        return len(losses) == ATTEMPTS and len({loss.position for loss in losses}) == 1


def _digest(submission: Submission) -> str:
    try:
        request = decode_request(submission.kind, submission.value, {})
    except RequestRefused:
        return digest(submission.value)
    return request_digest(request)[1]
