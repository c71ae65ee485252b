"""What Postgres knows of jobs, for clients that may read it. Opened by the first question: SQLAlchemy loads slowly."""

import threading
from typing import TYPE_CHECKING

from producers.status import JobStatus
from schemas.results import ResultEvent

if TYPE_CHECKING:
    from runtime.database import Database


class Archive:
    """The jobs and results of one tenant; any thread may ask.

    Raises:
        ServerUnreachable: from each method: Postgres is away.
    """

    def __init__(self, url: str, tenant: str) -> None:
        self._url = url
        self._tenant = tenant
        self._lock = threading.Lock()
        self._opened: Database | None = None

    def job(self, job_id: str) -> JobStatus | None:
        """The job's state, if the tenant has such a job."""
        from runtime.database.queries import find_job

        with self._database().begin() as connection:
            row = find_job(connection, self._tenant, job_id)
        return JobStatus.of_row(row) if row else None

    def recent(self, most: int) -> list[JobStatus]:
        """The tenant's last jobs, the newest first."""
        from runtime.database.queries import recent_jobs

        with self._database().begin() as connection:
            return [JobStatus.of_row(row) for row in recent_jobs(connection, self._tenant, most)]

    def result(self, job_id: str) -> ResultEvent | None:
        """The job's terminal event, if it has ended."""
        from runtime.database.queries import find_result

        with self._database().begin() as connection:
            return find_result(connection, self._tenant, job_id)

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            if self._opened:
                self._opened.close()

    def _database(self) -> "Database":
        from runtime.database import Database

        with self._lock:
            if self._opened is None:
                self._opened = Database(self._url, "headrace-client")
            return self._opened
