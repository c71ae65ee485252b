"""The results of jobs that this client did not start: from Postgres if it may ask, else from the results topic."""

import logging
import threading
from concurrent.futures import Future
from datetime import UTC, datetime

from producers.archive import Archive
from producers.cluster import Cluster
from producers.errors import ClientClosed
from producers.feed import JobFeed
from producers.ids import time_of
from schemas.errors import ServerUnreachable
from schemas.results import ResultEvent
from schemas.topics import RESULTS

logger = logging.getLogger(__name__)


class Searches:
    """Searches for one tenant, a thread each."""

    def __init__(self, cluster: Cluster, archive: Archive | None, tenant: str) -> None:
        self._cluster = cluster
        self._archive = archive
        self._tenant = tenant
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._threads: set[threading.Thread] = set()

    def result(self, job_id: str) -> Future[ResultEvent]:
        """The job's terminal event, now or later; cancelling the future ends the search."""
        found: Future[ResultEvent] = Future()
        thread = threading.Thread(target=self._run, args=(job_id, found), name=f"headrace-search-{job_id}", daemon=True)
        with self._lock:
            self._threads.add(thread)
        thread.start()
        return found

    def close(self) -> None:
        """End all searches; whoever waits gets ``ClientClosed``."""
        self._closed.set()
        with self._lock:
            threads = list(self._threads)
        for thread in threads:
            thread.join()

    def _run(self, job_id: str, found: Future[ResultEvent]) -> None:
        try:
            result = self._find(job_id, found)
            if found.set_running_or_notify_cancel():
                found.set_result(result)
        # Whatever went wrong belongs to whoever waits.
        except Exception as error:
            if found.set_running_or_notify_cancel():
                found.set_exception(error)
        finally:
            with self._lock:
                self._threads.discard(threading.current_thread())

    def _find(self, job_id: str, found: Future[ResultEvent]) -> ResultEvent:
        since = time_of(job_id)
        if self._archive:
            asked_at = datetime.now(UTC)
            try:
                stored = self._archive.result(job_id)
            except ServerUnreachable as error:
                logger.warning("%s Reading the results topic instead.", error)
            else:
                if stored:
                    return stored
                # A result is stored before it is published, so this one is still to come.
                since = asked_at
        feed = JobFeed(self._cluster, (RESULTS,), self._tenant, job_id, since)
        try:
            while not (self._closed.is_set() or found.cancelled()):
                event = feed.poll()
                if isinstance(event, ResultEvent):
                    return event
        finally:
            feed.close()
        raise ClientClosed
