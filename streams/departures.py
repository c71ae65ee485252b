"""Workers that have said that they leave: what was leased to them goes to others at once, in the same attempt."""

import logging
from collections import OrderedDict
from typing import Final

from runtime.database import jobs
from runtime.database.thread import DatabaseThread

log = logging.getLogger(__name__)

#: Those of which a lease may still be on its way.
GONE_WORKERS: Final = 1_000


class Departures:
    """Remembers who has gone, and ends the leases that they have left, or get meanwhile."""

    def __init__(self, database: DatabaseThread) -> None:
        self._database = database
        #: The last of them, in their order.
        self._gone: OrderedDict[str, None] = OrderedDict()
        self._due: set[str] = set()

    def __contains__(self, worker_id: str) -> bool:
        return worker_id in self._gone

    def left(self, worker_id: str) -> None:
        """A worker has gone, or was given a lease after it had."""
        self._due.add(worker_id)
        self._gone[worker_id] = None
        if len(self._gone) > GONE_WORKERS:
            self._gone.popitem(last=False)

    async def settle(self) -> int:
        """Queue the jobs that those who left had not taken; how many. Insists until Postgres answers."""
        if not self._due:
            return 0
        due = list(self._due)
        self._due.clear()
        queued = len(await self._database.insist(jobs.vacate, due))
        if queued:
            log.info("%d jobs were on their way to workers that have left: they are queued again.", queued)
        return queued
