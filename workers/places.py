"""The places of a worker: how many jobs of each kind it has, and how many more it takes."""

from collections import Counter

from runtime.database.admissions import needed_model
from schemas.events import Slots
from schemas.requests import Job
from schemas.topics import Kind
from workers.ahead import Ahead
from workers.credit import Credit
from workers.metrics import WorkerMetrics


class Places:
    """Counts the jobs that have a slot or wait for one."""

    def __init__(self, slots: Slots, metrics: WorkerMetrics) -> None:
        self.ahead = Ahead(slots)
        self._slots = slots
        self._metrics = metrics
        #: The most of each kind that the worker ever said it takes.
        self._offered = Counter({kind: slots.free(kind) for kind in Kind})
        self._taken: Counter[Kind] = Counter()
        self._credit = Credit()
        self._wanted: Counter[str] = Counter()
        for kind in Kind:
            metrics.slots.labels(kind).set(slots.free(kind))
            metrics.slots_busy.labels(kind).set(0)

    @property
    def taken(self) -> int:
        """Jobs of all kinds."""
        return self._taken.total()

    @property
    def models(self) -> set[str]:
        """The models of these jobs."""
        return set(self._wanted)

    def has_one(self, kind: Kind) -> bool:
        """Whether one more of a kind is no more than the worker ever said it takes."""
        return self._taken[kind] < self._offered[kind]

    def take(self, job: Job) -> None:
        """Count a job."""
        self._count(job.kind, 1)
        self._credit.take(job.kind)
        self._wanted[needed_model(job.request)] += 1

    def leave(self, job: Job) -> None:
        """Count it no more."""
        self._count(job.kind, -1)
        model = needed_model(job.request)
        self._wanted[model] -= 1
        if not self._wanted[model]:
            del self._wanted[model]

    def offer(self, *, closed: bool = False) -> Slots:
        """How many more jobs of each kind the worker takes now, for the dispatcher to hear; none if ``closed``."""
        free = Slots() if closed else self._free()
        self._credit.tell(free)
        return free

    def is_short(self, kind: Kind) -> bool:
        """Whether the dispatcher has to hear soon of places of a kind that are free."""
        # For each job twice, so without the other kinds.
        room = self._slots.free(kind) + self.ahead.of(kind)
        return self._credit.is_short(kind, room - self._taken[kind], room)

    def _free(self) -> Slots:
        room = self.ahead.room()
        self._offered |= Counter({kind: room.free(kind) for kind in Kind})

        def of(kind: Kind) -> int:
            return max(0, room.free(kind) - self._taken[kind])

        return Slots(of(Kind.GENERATE), of(Kind.FINETUNE), of(Kind.EVALUATE))

    def _count(self, kind: Kind, change: int) -> None:
        self._taken[kind] += change
        self._metrics.slots_busy.labels(kind).set(min(self._taken[kind], self._slots.free(kind)))
