"""How many jobs may wait: in all, and of one tenant."""

import asyncio
from collections import Counter
from collections.abc import Iterable
from typing import Final

from runtime.database import quotas
from runtime.database.thread import DatabaseThread
from schemas.errors import QuotaExceeded
from streams.instruments import Instruments

#: How often the waiting jobs are counted: what other processes admit between two counts is over the limits.
COUNT_S: Final = 1.0
#: Counting takes a twentieth of the time at most.
COUNT_PART: Final = 0.05


class Quotas:
    """Knows how many jobs wait, by the last count and by what this process has admitted since.

    Over the limit of a tenant, its requests are refused, and others do not notice. Over the limit of all,
    nobody's requests are read until there is room: they wait in Kafka.
    """

    def __init__(self, database: DatabaseThread, queue_jobs: int, tenant_jobs: int, instruments: Instruments) -> None:
        self._database = database
        self._queue_jobs = queue_jobs
        self._tenant_jobs = tenant_jobs
        self._instruments = instruments
        self._waiting: Counter[str] = Counter()
        self._total = 0
        self._room = asyncio.Event()
        self._room.set()

    async def run(self) -> None:
        """Count until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            begun_s = loop.time()
            await self.count()
            await asyncio.sleep(max(COUNT_S, (loop.time() - begun_s) / COUNT_PART))

    async def count(self) -> None:
        """Ask the database how many wait."""
        self._waiting = Counter(await self._database.insist(quotas.waiting))
        self._total = self._waiting.total()
        self._show()

    async def room(self) -> None:
        """Return once fewer jobs wait than may."""
        await self._room.wait()

    def refusal(self, tenant: str, more: int = 0) -> QuotaExceeded | None:
        """Why one more job of the tenant may not wait, besides ``more`` that are about to."""
        if self._waiting[tenant] + more < self._tenant_jobs:
            return None
        return QuotaExceeded(tenant, self._tenant_jobs)

    def admitted(self, tenants: Iterable[str]) -> None:
        """Count one job more of each."""
        for tenant in tenants:
            self._waiting[tenant] += 1
            self._total += 1
        self._show()

    def _show(self) -> None:
        if self._total < self._queue_jobs:
            self._room.set()
        else:
            self._room.clear()
        self._instruments.queue_full.set(self._total >= self._queue_jobs)
