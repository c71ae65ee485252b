"""What tasks tell, in Redis, for other processes to see: written in batches, by a thread of its own.

A view and never the authority: Redis slow or away costs what others see, and nothing else. Keys are
``headrace:task:<id>`` (JSON, a ``TaskStatus``) and ``headrace:tasks`` (ids by the time of their last news); all of them
run out.
"""

import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Self

import msgspec

from runtime.tasks.status import TaskStatus

if TYPE_CHECKING:  # child processes import this package as well, and have no use for the half second that Redis takes
    from redis import Redis

log = logging.getLogger(__name__)

PREFIX: Final = "headrace:task:"
RECENT: Final = "headrace:tasks"
#: How old a status may be when others see it.
FLUSH_S: Final = 0.1
#: How long one command may take.
ANSWER_S: Final = 1.0
#: For how long Redis is left alone after it has failed.
LEFT_ALONE_S: Final = 2.0
#: Tasks with news that may wait for Redis; the oldest news are dropped for more.
BUFFERED: Final = 10_000
#: Tasks a round trip.
BATCH: Final = 500


class RedisBoard:
    """The latest status of each task, for ``ttl_s`` after its last news. Thread-safe."""

    def __init__(self, client: "Redis", ttl_s: int = 3_600, clock: Callable[[], float] = time.time) -> None:
        self._client = client
        self._ttl_s = ttl_s
        self._clock = clock
        self._lock = threading.Lock()
        self._news: dict[str, TaskStatus] = {}
        self._dropped = 0
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        self._away = False

    @classmethod
    def connect(cls, url: str, ttl_s: int = 3_600) -> Self:
        """A board whose commands fail within ``ANSWER_S``; the connection is made by the first one."""
        from redis import Redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        client = Redis.from_url(
            url, socket_timeout=ANSWER_S, socket_connect_timeout=ANSWER_S, retry=Retry(NoBackoff(), 0)
        )
        return cls(client, ttl_s)

    def note(self, status: TaskStatus) -> None:
        """Show this within ``FLUSH_S``, unless there are later news of the task by then. Never blocks."""
        with self._lock:
            self._news[status.id] = status
            if len(self._news) > BUFFERED:
                del self._news[next(iter(self._news))]
                self._dropped += 1
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="task-board", daemon=True)
                self._thread.start()

    def read(self, task_id: str) -> TaskStatus | None:
        """What the task last told, in whatever process it is.

        Raises:
            redis.exceptions.RedisError: Redis does not answer.
        """
        value = self._client.get(PREFIX + task_id)
        return msgspec.json.decode(value, type=TaskStatus) if isinstance(value, bytes) else None

    def recent(self, most: int = 100) -> list[TaskStatus]:
        """The tasks with the latest news, the latest first.

        Raises:
            redis.exceptions.RedisError: Redis does not answer.
        """
        ids = self._client.zrange(RECENT, 0, most - 1, desc=True)
        values = self._client.mget([PREFIX.encode() + one for one in ids if isinstance(one, bytes)]) if ids else []
        return [msgspec.json.decode(value, type=TaskStatus) for value in values if isinstance(value, bytes)]

    def close(self) -> None:
        """Write what is left, if Redis answers, and close the connection."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join()
        self._client.close()

    def _run(self) -> None:
        while not self._closed.wait(LEFT_ALONE_S if self._away else FLUSH_S):
            self.flush()
        self.flush()

    def flush(self) -> None:
        """Write all news; what Redis does not take is kept for the next time, unless there are later ones."""
        while batch := self._take():
            try:
                self._write(batch)
            except Exception as error:  # whatever a client of a broken server raises: it is only a view
                self._put_back(batch)
                if not self._away:
                    log.warning("the tasks are not shown to other processes: Redis does not take them: %s", error)
                self._away = True
                return
            if self._away:
                log.warning("the tasks are shown again; of %d others will not see all news", self._dropped)
            self._away, self._dropped = False, 0

    def _take(self) -> dict[str, TaskStatus]:
        with self._lock:
            ids = list(self._news)[:BATCH]
            return {task_id: self._news.pop(task_id) for task_id in ids}

    def _put_back(self, batch: dict[str, TaskStatus]) -> None:
        with self._lock:
            # Older than what came since.
            self._news = {**batch, **self._news}
            while len(self._news) > BUFFERED:
                del self._news[next(iter(self._news))]
                self._dropped += 1

    def _write(self, batch: dict[str, TaskStatus]) -> None:
        now_s = self._clock()
        pipeline = self._client.pipeline(transaction=False)
        for task_id, status in batch.items():
            pipeline.set(PREFIX + task_id, msgspec.json.encode(status), ex=self._ttl_s)
        pipeline.zadd(RECENT, dict.fromkeys(batch, now_s))
        pipeline.zremrangebyscore(RECENT, 0, now_s - self._ttl_s)
        pipeline.expire(RECENT, self._ttl_s)
        pipeline.execute()
