"""A job's life as it happens: states and progress, then its result."""

import time
from collections.abc import Callable, Generator
from datetime import datetime
from typing import Final

from producers.cluster import Cluster
from producers.feed import JobEvent, JobFeed
from producers.ids import time_of
from schemas.events import StatusEvent
from schemas.results import ResultEvent
from schemas.topics import PROGRESS, RESULTS, STATUS

#: The result is not held back for longer than this, for progress that was published before it.
STRAGGLERS_S: Final = 2.0


def watch_job(
    cluster: Cluster, tenant: str, job_id: str, stopped: Callable[[], bool]
) -> Generator[JobEvent, None, None]:
    """Yield what was and what comes, and the terminal event as the last; ends early once ``stopped``.

    1. What the topics hold already, by time: each topic alone is in order, one to another they are not.
    2. What comes, until the result.
    3. What was published before the result, but is read after it.
    4. The result.

    Raises:
        ServerUnreachable: Kafka is away.
    """
    feed = JobFeed(cluster, (PROGRESS, STATUS, RESULTS), tenant, job_id, time_of(job_id))
    try:
        past: list[JobEvent] = []
        while not feed.caught_up:
            if stopped():
                return
            past.extend(_one(feed))
        result = next((event for event in past if isinstance(event, ResultEvent)), None)
        yield from sorted((event for event in past if event is not result), key=_time)
        while result is None:
            if stopped():
                return
            for event in _one(feed):
                if isinstance(event, ResultEvent):
                    result = event
                else:
                    yield event
        ends, deadline_s = feed.ends(), time.monotonic() + STRAGGLERS_S
        while feed.behind(ends) and time.monotonic() < deadline_s and not stopped():
            yield from _one(feed)
        yield result
    finally:
        feed.close()


def last_status(cluster: Cluster, tenant: str, job_id: str) -> StatusEvent | None:
    """The job's last state on the status topic.

    Raises:
        ServerUnreachable: Kafka is away.
    """
    feed = JobFeed(cluster, (STATUS,), tenant, job_id, time_of(job_id))
    last: StatusEvent | None = None
    try:
        while not feed.caught_up:
            event = feed.poll()
            if isinstance(event, StatusEvent):
                last = event
    finally:
        feed.close()
    return last


def _one(feed: JobFeed) -> list[JobEvent]:
    event = feed.poll()
    return [event] if event else []


def _time(event: JobEvent) -> datetime:
    return event.finished_at if isinstance(event, ResultEvent) else event.at
