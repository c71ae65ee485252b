"""Whose result it is that comes under an id which a client gave: of two requests, the first that is admitted runs."""

import threading
from collections import OrderedDict
from typing import Final

from schemas.codec import digest
from schemas.errors import IdConflict
from schemas.results import ResultEvent

#: Ids whose result nobody has asked for yet. Of those beyond that a conflict is not noticed.
CLAIMS: Final = 100_000


class Claims:
    """What one client has sent under given ids; any thread may use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bodies: OrderedDict[str, frozenset[str]] = OrderedDict()

    def add(self, job_id: str, *bodies: bytes) -> None:
        """Remember a request, in each form in which the dispatcher may take its digest."""
        with self._lock:
            self._bodies[job_id] = frozenset(map(digest, bodies))
            if len(self._bodies) > CLAIMS:
                self._bodies.popitem(last=False)

    def conflict(self, event: ResultEvent) -> IdConflict | None:
        """The error where the result is another request's.

        It is told once: who asks again knows it, and asks for the result of the id, whoever sent the request.
        """
        with self._lock:
            bodies = self._bodies.pop(event.job_id, None)
        found = event.lineage.request
        return IdConflict(event.tenant, event.job_id) if bodies and found and found not in bodies else None
