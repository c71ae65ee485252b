"""Tells jobs that wait where they stand: their place in the queue, and about when they start."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from runtime.kafka import Publisher
from schemas.events import State, StatusEvent
from streams.announcements import publish_status
from streams.outlooks import Outlook

#: How often, and how many of each kind: with three kinds fewer than 50 events a second. Those further back are
#: told when they come nearer.
PLACES_S: Final = 5.0
PLACES_JOBS: Final = 80


class Places:
    """Publishes what has changed since the last time."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self._told: dict[tuple[str, str], int] = {}
        self._told_s = 0.0

    def due(self, at_s: float) -> bool:
        """Whether it is time to tell them again."""
        return at_s - self._told_s >= PLACES_S

    def tell(self, outlooks: Sequence[Outlook], at_s: float) -> None:
        """Publish the places of the first jobs; a repeat says the same, or newer."""
        now, self._told_s = datetime.now(UTC), at_s
        before, self._told = self._told, {}
        for outlook in outlooks:
            key = (outlook.job.tenant, outlook.job.id)
            self._told[key] = outlook.position
            if before.get(key) != outlook.position:
                publish_status(self._publisher, _status(outlook, now), outlook.job.traceparent)


def _status(outlook: Outlook, at: datetime) -> StatusEvent:
    return StatusEvent(
        job_id=outlook.job.id,
        tenant=outlook.job.tenant,
        kind=outlook.job.kind,
        state=State.QUEUED,
        attempt=outlook.job.attempt,
        at=at,
        queue_position=outlook.position,
        starts_in_s=round(outlook.starts_in_s, 1),
    )
