"""How attempts end: stored, many at a time; the relay publishes what is stored."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from runtime.database import outcomes
from runtime.database.outcomes import Settlement
from runtime.database.thread import DatabaseThread
from schemas.events import Lease
from schemas.results import ResultEvent
from workers.metrics import WorkerMetrics

log = logging.getLogger(__name__)

#: An end waits so long for others that share its transaction. While one transaction runs, the next
#: batch gathers by itself, so this matters only to the first.
GATHER_S: Final = 0.002
#: Bounds the memory and the duration of one statement.
BATCH_JOBS: Final = 500


@dataclass(frozen=True)
class _Ending:
    settlement: Settlement
    stored: asyncio.Future[bool]


class Outcomes:
    """Commits the ends of attempts in groups.

    1. One transaction writes state, result, outbox and usage rows of a whole batch, guarded by each
       job's epoch. A crash before it: the leases run out, and the jobs run again elsewhere.
    2. ``stored`` is called, which lets the relay look into the outbox soon. A crash before it: the relay
       looks all the same.
    """

    def __init__(self, database: DatabaseThread, metrics: WorkerMetrics, stored: Callable[[], None]) -> None:
        self._database = database
        self._metrics = metrics
        self._stored = stored
        self._endings: list[_Ending] = []
        self._wake = asyncio.Event()

    async def settle(self, lease: Lease, event: ResultEvent) -> bool:
        """Store the end of an attempt; False where its lease was lost, and nothing was written.

        While Postgres is away it waits. A transaction whose answer was lost counts as a lost lease
        when it is repeated; its event is in the outbox all the same.
        """
        stored: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._endings.append(_Ending(Settlement(lease, event), stored))
        self._wake.set()
        return await stored

    async def run(self) -> None:
        """Commit what comes, until cancelled."""
        while True:
            await self._wake.wait()
            await asyncio.sleep(GATHER_S)
            batch, self._endings = self._endings[:BATCH_JOBS], self._endings[BATCH_JOBS:]
            if not self._endings:
                self._wake.clear()
            await self._commit(batch)

    async def _commit(self, batch: list[_Ending]) -> None:
        loop = asyncio.get_running_loop()
        begun_s = loop.time()
        try:
            held = await self._database.insist(outcomes.settle, [ending.settlement for ending in batch])
        except Exception as error:  # whatever Postgres refuses of one outcome must not take its neighbours along
            if len(batch) == 1:
                _answer(batch[0], error)
                return
            log.warning("A batch of %d outcomes was refused; storing them one by one: %s", len(batch), error)
            for ending in batch:
                await self._commit([ending])
            return
        self._metrics.settle_s.observe(loop.time() - begun_s)
        self._metrics.settled.observe(len(batch))
        self._stored()
        for ending in batch:
            _answer(ending, ending.settlement.lease in held)


def _answer(ending: _Ending, answer: bool | Exception) -> None:
    if ending.stored.done():  # the job's task was cancelled meanwhile
        return
    if isinstance(answer, Exception):
        ending.stored.set_exception(answer)
    else:
        ending.stored.set_result(answer)
