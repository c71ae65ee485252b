"""How many of a job's parts are done, told to its watchers at a readable rate."""

import asyncio
from typing import Final

from workers.context import JobContext
from workers.progress import Count

REPORTS_PER_S: Final = 2


class Tally:
    """Counts up to ``total`` ``unit``s; for the event loop's thread."""

    def __init__(self, ctx: JobContext, total: int, unit: str, done: int = 0) -> None:
        self._ctx, self._total, self._unit = ctx, total, unit
        self._done = done
        self._reported_at_s = asyncio.get_running_loop().time()

    def add(self, count: int = 1) -> None:
        """So many more are done; the last one is reported always."""
        self._done += count
        now_s = asyncio.get_running_loop().time()
        if self._done >= self._total or now_s - self._reported_at_s >= 1 / REPORTS_PER_S:
            self._reported_at_s = now_s
            self._ctx.report(Count(self._done, self._total, self._unit))
