"""A worker as of its last heartbeat, and what it was sent since: it never has more than it asked for."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Final

from runtime.database.jobs import QueuedJob
from schemas.events import Heartbeat
from schemas.topics import Kind

#: Of the jobs that a worker takes beyond its slots, this part is for tenants of whom nobody waits: the queue of one
#: that floods has the others, and no slot is left empty for it.
NEWCOMERS: Final = 4


@dataclass(frozen=True, eq=False, slots=True)
class Assignment:
    """A job for a worker, in one of whose slots it is counted from ``at_s`` on."""

    job: QueuedJob
    worker_id: str
    partition: int
    at_s: float


@dataclass(frozen=True)
class Progress:
    """What a heartbeat tells about a kind, against the one before: slot seconds, and jobs that ended."""

    kind: Kind
    busy_s: float
    ended: int


@dataclass(frozen=True)
class _Loading:
    since_s: float
    #: When it is no longer believed, for a model that can't be loaded never shows.
    until_s: float


@dataclass
class Worker:
    """Its free slots, the models that it holds or loads, and whether a job has it for itself."""

    beat: Heartbeat
    seen_s: float
    #: Nothing more is sent: a last attempt waits for it to become idle.
    reserved: bool = False
    #: The last attempt that it runs, until a heartbeat shows it idle again.
    alone: Assignment | None = None
    models: frozenset[str] = frozenset()
    # Of each assignment its offset, or None until Kafka tells it.
    _sent: dict[Assignment, int | None] = field(default_factory=dict)
    _vacant: dict[Kind, int] = field(default_factory=dict)
    _slots: dict[Kind, int] = field(default_factory=dict)
    _loading: dict[str, _Loading] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._learn()

    @property
    def id(self) -> str:
        """Its id."""
        return self.beat.worker_id

    @property
    def open(self) -> bool:
        """Whether it takes jobs in general."""
        return not (self.beat.draining or self.reserved or self.alone)

    @property
    def idle(self) -> bool:
        """Whether it has nothing to do, and nothing is on its way to it."""
        vacant = all(self.beat.free.free(kind) >= self._slots[kind] for kind in Kind)
        return vacant and not self._sent and not self.beat.draining

    def free(self, kind: Kind) -> int:
        """The jobs that it could be sent now."""
        return 0 if self.beat.draining or self.reserved or self.alone else self._vacant[kind]

    def free_to_waiting(self, kind: Kind) -> int:
        """As ``free``, without what is kept for newcomers."""
        kept = self.beat.ahead.free(kind) // NEWCOMERS if self.beat.ahead else 0
        return max(0, self.free(kind) - kept)

    def slots(self, kind: Kind) -> int:
        """The jobs that it runs at once: as it says, or as many as were ever free."""
        return self._slots[kind]

    def load(self, kind: Kind) -> float:
        """The part of its slots that is taken."""
        slots = self._slots[kind]
        return 1.0 - self._vacant[kind] / slots if slots else 1.0

    def holds(self, model: str) -> bool:
        """Whether the model is in its memory, or was on its way there by ``seen_s``."""
        return model in self.models or model in self._loading

    def held(self) -> Iterator[str]:
        """The models in its memory, and those on their way there."""
        yield from self.beat.models
        yield from self._loading

    @property
    def is_loading(self) -> bool:
        """Whether a model is on its way into its memory: it loads one after the other."""
        return bool(self._loading)

    def update(self, beat: Heartbeat, at_s: float) -> list[Progress] | None:
        """Take a heartbeat; None for one that is older than another."""
        if beat.position < self.beat.position:
            return None
        before, elapsed_s = self.beat.free, max(0.0, at_s - self.seen_s)
        busy = {kind: max(0, self._slots[kind] - before.free(kind)) for kind in Kind}
        self.beat, self.seen_s = beat, at_s
        taken = [item for item, offset in self._sent.items() if self._is_taken(offset)]
        for assignment in taken:
            del self._sent[assignment]
        self._learn()
        if self.alone and self.alone not in self._sent and self.idle:
            self.alone = None
        began = Counter(item.job.kind for item in taken)
        ended = {kind: began[kind] + beat.free.free(kind) - before.free(kind) for kind in Kind}
        return [Progress(kind, busy[kind] * elapsed_s, max(0, ended[kind])) for kind in Kind]

    def loaded(self) -> list[tuple[str, float]]:
        """The models that were on their way and have come, with the seconds; those that never came are dropped.

        A worker loads nothing that no job of its waits for: there is no such model, or its client wanted it no longer.
        """
        come = [(model, self.seen_s - item.since_s) for model, item in self._loading.items() if model in self.models]
        self._loading = {
            model: item
            for model, item in self._loading.items()
            if model not in self.models and item.until_s > self.seen_s and self._may_load(model)
        }
        return come

    def _may_load(self, model: str) -> bool:
        """Whether a job of its may wait for the model, or one that is on its way to it."""
        if self.beat.loading is None:
            return not self.idle
        return model in self.beat.loading or any(assignment.job.model == model for assignment in self._sent)

    def assign(self, job: QueuedJob, at_s: float, load_s: float) -> Assignment:
        """Count a job in one of the slots. Its model, where it is not here, comes within ``load_s`` or never."""
        assignment = Assignment(job, self.beat.worker_id, self.beat.partition, at_s)
        self._sent[assignment] = None
        self._vacant[job.kind] -= 1
        if not self.holds(job.model):
            self._loading[job.model] = _Loading(at_s, at_s + load_s)
        return assignment

    def sent(self, assignment: Assignment, offset: int) -> None:
        """Note where the assignment's event lies; the position of a heartbeat then tells when it was taken."""
        if assignment not in self._sent:
            return
        if self._is_taken(offset):
            # The heartbeat that counts it was faster than Kafka's acknowledgement.
            self.release(assignment)
        else:
            self._sent[assignment] = offset

    def release(self, assignment: Assignment) -> bool:
        """Give the slot back; False where it was already."""
        if assignment not in self._sent:
            return False
        del self._sent[assignment]
        self._vacant[assignment.job.kind] += 1
        return True

    def revoke(self, assignment: Assignment) -> None:
        """Give the slot back: the job never came."""
        if self.release(assignment):
            self._loading.pop(assignment.job.model, None)
            if self.alone is assignment:
                self.alone = None

    def lost(self, before_s: float) -> list[Assignment]:
        """What was assigned before then and never taken."""
        # They are in the order of their times.
        return list(takewhile(lambda item: item.at_s < before_s, self._sent))

    def _is_taken(self, offset: int | None) -> bool:
        return offset is not None and offset < self.beat.position

    def _learn(self) -> None:
        beat = self.beat
        self.models = frozenset(beat.models)
        for kind in Kind:
            known = beat.slots.free(kind) if beat.slots else self._slots.get(kind, 0)
            self._slots[kind] = max(known, beat.free.free(kind))
            self._vacant[kind] = beat.free.free(kind)
        for assignment in self._sent:
            self._vacant[assignment.job.kind] -= 1
