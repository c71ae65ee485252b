"""Slots of one kind, and whose turn it is when one comes free."""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from schemas.requests import Job, Priority

URGENCY: Final = {priority: place for place, priority in enumerate(Priority)}


class Turns:
    """Gives slots to the jobs at hand: by priority, then to the tenant that has the fewest, then as they came.

    The dispatcher has decided who comes, but one tenant's flood fills all the places at hand: first come, first
    served, another's job would wait behind it here.
    """

    def __init__(self, slots: int) -> None:
        self._free = slots
        self._running: Counter[str] = Counter()
        # By priority and tenant: a decision looks at the tenants, not at their jobs.
        self._waiting: dict[tuple[int, str], deque[asyncio.Event]] = {}

    @asynccontextmanager
    async def slot(self, job: Job) -> AsyncIterator[None]:
        """Wait for a slot, and have it until the end of the block."""
        key, granted = (URGENCY[job.request.priority], job.tenant), asyncio.Event()
        self._waiting.setdefault(key, deque()).append(granted)
        self._grant()
        try:
            await granted.wait()
            yield
        finally:
            if granted.is_set():  # a wait may be cancelled at the moment when it is granted
                self._free += 1
                self._running[job.tenant] -= 1
                if not self._running[job.tenant]:
                    del self._running[job.tenant]
            else:
                self._drop(key, granted)
            self._grant()

    def _grant(self) -> None:
        while self._free > 0 and self._waiting:
            key = min(self._waiting, key=lambda each: (each[0], self._running[each[1]]))
            granted = self._waiting[key][0]
            self._drop(key, granted)
            self._free -= 1
            self._running[key[1]] += 1
            granted.set()

    def _drop(self, key: tuple[int, str], granted: asyncio.Event) -> None:
        waiting = self._waiting[key]
        waiting.remove(granted)
        if not waiting:
            del self._waiting[key]
