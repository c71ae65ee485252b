"""How attempts end: stored, many at a time; the relay publishes what is stored."""

import asyncio
import logging
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from runtime.database import outcomes
from runtime.database.outcomes import Settlement
from runtime.database.thread import BACKOFF_LIMIT_S, BACKOFF_S, DatabaseThread
from schemas.errors import ServerUnreachable
from schemas.events import Lease
from schemas.results import ResultEvent
from workers.leases import Leases
from workers.metrics import WorkerMetrics

log = logging.getLogger(__name__)

#: An end waits so long for others that share its transaction. While one transaction runs, the next
#: batch gathers by itself, so this matters only to the first.
GATHER_S: Final = 0.002
#: Bound the memory and the duration of one statement. A single result may have as many bytes, and each is stored twice.
BATCH_JOBS: Final = 500
BATCH_BYTES: Final = 8 * 1024**2
#: With so much that waits to be stored the worker takes no more jobs.
FULL_BYTES: Final = 64 * 1024**2


@dataclass(frozen=True)
class _Ending:
    settlement: Settlement
    stored: asyncio.Future[bool]
    since_s: float


class Outcomes:
    """Commits the ends of attempts in groups.

    1. One transaction writes state, result, outbox and usage rows of a whole batch, guarded by each
       job's epoch. A crash before it: the leases run out, and the jobs run again elsewhere.
    2. ``stored`` is called, which lets the relay look into the outbox soon. A crash before it: the relay
       looks all the same.
    """

    def __init__(
        self, database: DatabaseThread, leases: Leases, metrics: WorkerMetrics, stored: Callable[[], None]
    ) -> None:
        self._database = database
        self._leases = leases
        self._metrics = metrics
        self._stored = stored
        self._endings: deque[_Ending] = deque()
        self._wake = asyncio.Event()
        self._size_bytes = 0
        #: How many ends the next transaction may store, and the wait after one that fails.
        self._most = BATCH_JOBS
        self._backoff_s = BACKOFF_S

    @property
    def full(self) -> bool:
        """Whether so much waits to be stored that more could fill the memory."""
        return self._size_bytes >= FULL_BYTES

    async def settle(self, lease: Lease, event: ResultEvent) -> bool:
        """Store the end of an attempt; False where its lease was lost, and nothing was written.

        While Postgres is away it waits. A transaction whose answer was lost counts as a lost lease
        when it is repeated; its event is in the outbox all the same.
        """
        loop = asyncio.get_running_loop()
        ending = _Ending(Settlement(lease, event), loop.create_future(), loop.time())
        size_bytes = len(ending.settlement.encoded)
        self._size_bytes += size_bytes
        self._endings.append(ending)
        self._wake.set()
        try:
            return await ending.stored
        finally:
            self._size_bytes -= size_bytes

    async def run(self) -> None:
        """Commit what comes, until cancelled."""
        while True:
            await self._wake.wait()
            await asyncio.sleep(GATHER_S)
            batch = self._next()
            if not self._endings:
                self._wake.clear()
            await self._commit(batch)

    def _next(self) -> list[_Ending]:
        batch, size_bytes = [self._endings.popleft()], 0
        while self._endings and len(batch) < self._most:
            size_bytes += len(batch[-1].settlement.encoded)
            if size_bytes + len(self._endings[0].settlement.encoded) > BATCH_BYTES:
                break
            batch.append(self._endings.popleft())
        return batch

    async def _commit(self, batch: list[_Ending]) -> None:
        settlements = [ending.settlement for ending in batch]
        try:
            async with self._leases.ending([item.lease for item in settlements]):
                held = await self._database.run(outcomes.settle, settlements)
        except ServerUnreachable as error:
            await self._again(batch, error)
        except Exception as error:  # whatever Postgres refuses of one outcome must not take its neighbours along
            if len(batch) == 1:
                _answer(batch[0], error)
                return
            log.warning("A batch of %d outcomes was refused; storing them one by one: %s", len(batch), error)
            for ending in batch:
                await self._commit([ending])
        else:
            self._most, self._backoff_s = min(2 * self._most, BATCH_JOBS), BACKOFF_S
            self._committed(batch, held)

    async def _again(self, batch: Sequence[_Ending], error: ServerUnreachable) -> None:
        """Have a batch wait again behind all others, to be stored in smaller ones: it may be what takes too long."""
        self._endings.extend(batch)
        self._wake.set()
        self._most = max(1, len(batch) // 2)
        log.warning("%s Trying again in %.1f s with %d outcomes at once.", error, self._backoff_s, self._most)
        # Jitter, so that the workers do not all come back at once.
        await asyncio.sleep(self._backoff_s * random.uniform(0.5, 1.0))
        self._backoff_s = min(2 * self._backoff_s, BACKOFF_LIMIT_S)

    def _committed(self, batch: Sequence[_Ending], held: set[Lease]) -> None:
        waited_s = asyncio.get_running_loop().time() - min(ending.since_s for ending in batch)
        self._metrics.settle_s.observe(waited_s)
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
