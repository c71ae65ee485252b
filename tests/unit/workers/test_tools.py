"""What the jobs of a worker share."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import cast

import pytest
from sqlalchemy import Connection

from runtime.cache import Cache
from runtime.database import Database
from schemas.errors import ServerUnreachable
from workers.tools import LOOKUPS, DatabaseModels


class CountingDatabase:
    """Counts the transactions at once; each waits until there are as many as there may be, and fails."""

    def __init__(self) -> None:
        self.most = 0
        self._now = 0
        self._lock = threading.Lock()
        self._all = threading.Barrier(LOOKUPS)

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """As ``Database.begin``."""
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
        self._all.wait(timeout=60)
        with self._lock:
            self._now -= 1
        raise ServerUnreachable("Postgres", "here", "it is silent")
        yield  # type: ignore[unreachable]


def test_many_jobs_that_look_for_tuned_models_share_a_few_connections() -> None:
    database = CountingDatabase()
    models = DatabaseModels(cast(Database, database), Cache())
    with ThreadPoolExecutor(5 * LOOKUPS) as threads:
        asked = [threads.submit(models.find, "default", f"ft:{number}") for number in range(5 * LOOKUPS)]
    for each in asked:
        with pytest.raises(ServerUnreachable):
            each.result()
    assert database.most == LOOKUPS
