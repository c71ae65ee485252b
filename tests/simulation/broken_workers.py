"""Parts of the worker, each with one thing wrong."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from runtime.database import checkpoints
from runtime.database.workers import renew_worker
from schemas.codec import decode
from schemas.events import Lease, Slots, StopEvent, WorkEvent
from schemas.results import Result, ResultEvent
from tests.simulation.kafka import SimRecord
from tests.simulation.processes import PartitionReader, is_stop
from workers.checkpoints import JobCheckpoints
from workers.desk import Desk
from workers.leases import Leases
from workers.outcomes import Outcomes
from workers.worker import Worker


class _KeepsWhatIsLost(Leases):
    """Takes no notice of an answer that says that a job or the partition is another's."""

    async def renew(self) -> None:
        await self._database.insist(renew_worker, self._partition, self._worker_id, tuple(self._held), self._lease_s)


class _StopsNothing(Leases):
    """Leaves the partition when it is lost, but never stops a job."""

    async def renew(self) -> None:
        held, self._held = self._held, _Silent(self._held)
        try:
            await super().renew()
        finally:
            self._held = held


class _Silent(dict[Lease, Any]):
    """The leases, none of which is found when it is looked up."""

    def __contains__(self, key: object) -> bool:
        return False


class IgnoresPartitionLoss(Worker):
    """A zombie."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self._leases.__class__ = _KeepsWhatIsLost


class IgnoresLeaseLoss(Worker):
    """Runs lost jobs to their end."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self._leases.__class__ = _StopsNothing


class _TakesCopies(Desk):
    """Forgets that it has a lease already."""

    def take(self, work: WorkEvent) -> None:
        self._leases.drop(work.lease)
        super().take(work)


class RunsCopies(Worker):
    """Runs what Kafka duplicated."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self._desk.__class__ = _TakesCopies


class _SaysItIsFree(Desk):
    """Tells of all its slots, always."""

    def free(self) -> Slots:
        return self.room()


class _Timeless(Desk):
    """Gives jobs without their deadlines to the handlers."""

    def take(self, work: WorkEvent) -> None:
        request = replace(work.job.request, deadline=None)
        super().take(replace(work, job=replace(work.job, request=request)))


class IgnoresDeadlines(Worker):
    """Runs jobs to their end, however late."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self._desk.__class__ = _Timeless


class HidesWhatItHas(Worker):
    """Gives credit that it does not have."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self._desk.__class__ = _SaysItIsFree


class _Hasty(JobCheckpoints):
    """Deletes the last checkpoint's files before its row names the next ones."""

    async def save(self, position: int, state: Struct, write: Callable[[Path], None]) -> None:
        if self._last:
            await self._store.discard(self._last.artifact_sha256, self._last.artifact_uri)
        await super().save(position, state, write)


class _Spiteful(JobCheckpoints):
    """Deletes what it has published once it has lost the lease, also where the row names it."""

    async def save(self, position: int, state: Struct, write: Callable[[Path], None]) -> None:
        await super().save(position, state, write)
        if self._last and not await self._store.database.insist(checkpoints.save, self._lease, self._last):
            await self._store.discard(self._last.artifact_sha256, self._last.artifact_uri)


class DeletesTooEarly(Worker):
    """A crash between its two steps leaves a row without files."""

    making: type[JobCheckpoints] = _Hasty

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        desk = self._desk
        desk._workplace = dataclasses.replace(
            desk._workplace, checkpoints=lambda lease: self.making(self._checkpoints, lease)
        )


class DeletesWhatOthersNeed(DeletesTooEarly):
    """Its successor finds a row without files."""

    making = _Spiteful


class _StoresTheLast(Outcomes):
    """Stores each result one job late."""

    _last: Result | None = None

    async def settle(self, lease: Lease, event: ResultEvent) -> bool:
        ours = event.result
        if ours and type(ours) is type(self._last):
            event = replace(event, result=self._last)
        self._last = ours or self._last
        return await super().settle(lease, event)


class MixesResults(Worker):
    """Gives a job the result of the one before."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self._outcomes.__class__ = _StoresTheLast


class ReadsAll(PartitionReader):
    """Reads what was for the workers before it."""

    def begin(self) -> int:
        return 0

    def decode(self, records: Sequence[SimRecord]) -> list[WorkEvent | StopEvent]:
        return [decode(WorkEvent, record.value or b"") for record in records if not is_stop(record)]
