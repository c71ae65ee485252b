"""The Python client: send requests, wait for results, watch jobs."""

import logging
import math
import os
import threading
import time
from collections.abc import Generator, Iterable
from concurrent.futures import Future
from contextlib import closing
from functools import partial
from types import TracebackType
from typing import Self

import msgspec

from producers.archive import Archive
from producers.claims import Claims
from producers.cluster import Cluster
from producers.errors import ClientClosed, NotRetried
from producers.feed import JobEvent
from producers.ids import new_job_id
from producers.search import Searches
from producers.sender import Sender, id_of, send_all
from producers.status import JobStatus
from producers.tail import ResultTail
from producers.watch import last_status, watch_job
from runtime.settings import InvalidSetting, Settings
from schemas.errors import JobNotFound, ResultTimeout, ServerUnreachable
from schemas.events import RETRIED_STATES, ControlEvent, State
from schemas.requests import DEFAULT_TENANT, Request
from schemas.results import ResultEvent

logger = logging.getLogger(__name__)


class Headrace:
    """A connection to one Headrace for one tenant; any thread may use it. Close it, or use it in a ``with``."""

    def __init__(self, kafka: str, tenant: str = DEFAULT_TENANT, database: str | None = None) -> None:
        self.tenant = tenant
        self._cluster = Cluster(kafka)
        self._archive = Archive(database, tenant) if database else None
        self._claims = Claims()
        self._sender = Sender(kafka, tenant, self._claims)
        self._tail = ResultTail(self._cluster, tenant, self._claims)
        self._searches = Searches(self._cluster, self._archive, self._tail)
        self._closed = threading.Event()

    @classmethod
    def connect(cls, kafka: str | None = None, *, tenant: str = DEFAULT_TENANT, database: str | None = None) -> Self:
        """Connect to Kafka at ``kafka``; without it, to HEADRACE_KAFKA and HEADRACE_DATABASE of the environment.

        With a ``database`` (a ``postgresql+psycopg2://`` URL), states and results of any age come from there.
        Without one they come from the topics, for as long as those keep them.

        Raises:
            ServerUnreachable: no broker answers.
            TopicsMissing: the topics were not created.
        """
        if kafka:
            return cls(kafka, tenant, database)
        settings = Settings.from_env(os.environ)
        configured = settings.database if os.environ.get("HEADRACE_DATABASE") else None
        return cls(settings.kafka, tenant, database or configured)

    def submit(self, request: Request, *, traceparent: str | None = None) -> str:
        """Send a request, and wait until Kafka has it for good; the job's id.

        A request without an id gets a new one. One with an id may be sent again after an error: it runs once. Where
        the id was used for another request, that one's result stands, and ``result`` raises ``IdConflict``.

        Raises:
            InvalidRequest: a field is out of range, or the tenant is another than the client's.
            RequestTooLarge: it is over the size limit. Nothing was sent.
            ServerUnreachable: Kafka did not acknowledge it; it may have arrived all the same.
            ClientClosed: the client was closed meanwhile; likewise.
        """
        return self.send(request, traceparent=traceparent).result()

    def submit_many(self, requests: Iterable[Request]) -> list[str]:
        """Send requests together, as fast as Kafka takes them, and wait until it has all; their ids in the same order.

        Raises: as ``submit``, for the first that fails; those before it and some after it were sent. To send all of
        them again then, give them ids: each runs once.
        """
        return send_all(partial(self._send, request, id_of(request)) for request in requests)

    def send(self, request: Request, *, traceparent: str | None = None) -> Future[str]:
        """As ``submit``, but don't wait: the future has the job's id once Kafka has the request.

        Its callbacks run in the delivery thread and must not block. What is wrong with the request itself
        is raised at once, and that there is no room for it, as too much waits for Kafka already.
        """
        return self._send(request, id_of(request), traceparent)

    def cancel(self, job_id: str, reason: str | None = None, *, keep_partial: bool = False) -> None:
        """Ask for a job to end early. Returns once Kafka has the wish; the job's result tells what came of it.

        With ``keep_partial`` that has what a running job had by then: the text so far, the tuned weights.
        A job that has ended is left alone; one that is not admitted yet is cancelled once it is.

        Raises:
            InvalidRequest: the id has the wrong form, or the reason is too long. Nothing was sent.
            ServerUnreachable: Kafka did not acknowledge it; ask again.
            ClientClosed: the client was closed meanwhile.
        """
        self._want(ControlEvent(action="cancel", job_id=job_id, reason=reason, keep_partial=keep_partial))

    def pause(self, job_id: str, reason: str | None = None) -> None:
        """Ask for a job to wait until it is resumed: it gives its worker back, and keeps its last checkpoint.

        A generation has none, and begins anew.

        Raises: as ``cancel``.
        """
        self._want(ControlEvent(action="pause", job_id=job_id, reason=reason))

    def resume(self, job_id: str, reason: str | None = None) -> None:
        """Let a paused job go on as soon as a worker is free.

        Raises: as ``cancel``.
        """
        self._want(ControlEvent(action="resume", job_id=job_id, reason=reason))

    def retry(self, job_id: str, reason: str | None = None, *, new_id: str | None = None) -> str:
        """Submit a job again that has failed, was cancelled or has expired; the id of the new job.

        A deadline that it missed is left out. A job that waits for another attempt begins it at once, and
        keeps its id.

        Raises:
            NotRetried: the job has not ended, has succeeded or was rejected. Nothing was sent.
            JobNotFound: there is no such job.
            InvalidRequest, ServerUnreachable: as ``cancel``.
        """
        found = self.status(job_id)
        if found.state is State.QUEUED:
            self._want(ControlEvent(action="retry", job_id=job_id, reason=reason))
            return job_id
        if found.state not in RETRIED_STATES:
            raise NotRetried(job_id, found.state)
        retried = new_id or new_job_id(found.kind)
        if new_id is None:
            self._tail.expect(retried)
        self._want(ControlEvent(action="retry", job_id=job_id, reason=reason, new_id=retried))
        return retried

    def result(self, job_id: str, timeout_s: float | None = None, *, ended: bool = False) -> ResultEvent:
        """Wait for the job's terminal event, whoever submitted it; failed jobs have theirs too.

        With ``ended`` the job is known to have ended, and what is not there any more is not waited for.

        Raises:
            ResultTimeout: there is none within ``timeout_s``; the job goes on.
            ResultGone: the job has ended, and its result is older than the results topic keeps.
            IdConflict: the result is of another request under this id than the one that this client sent. Told once.
            ServerUnreachable: Kafka is away; the job goes on, and its result may be asked for again.
            ClientClosed: the client was closed meanwhile.
        """
        waiting = self.expect(job_id, ended=ended)
        try:
            return waiting.result(timeout_s)
        except TimeoutError:
            raise ResultTimeout(job_id, timeout_s or 0.0) from None
        finally:
            waiting.cancel()

    def expect(self, job_id: str, *, ended: bool = False) -> Future[ResultEvent]:
        """As ``result``, but don't wait. Cancel the future when it is no longer wanted."""
        self._check_open()
        waiting, may_be_past = self._tail.result(job_id)
        if may_be_past:
            self._searches.begin(job_id, ended=ended)
        return waiting

    def watch(
        self, job_id: str, timeout_s: float | None = None, *, stopped: threading.Event | None = None
    ) -> Generator[JobEvent, None, None]:
        """Yield the job's states and progress, past ones first, and its terminal event as the last.

        A job that nobody has submitted yet is waited for. Ends early soon after ``stopped`` is set, by any thread.

        Raises:
            ResultTimeout: the job has not ended within ``timeout_s``; it goes on.
            IdConflict: as ``result``.
            ServerUnreachable: Kafka is away.
            ClientClosed: the client was closed meanwhile.
        """
        self._check_open()
        wanted = stopped or threading.Event()
        deadline_s = math.inf if timeout_s is None else time.monotonic() + timeout_s

        def is_over() -> bool:
            return wanted.is_set() or self._closed.is_set() or time.monotonic() > deadline_s

        with closing(watch_job(self._cluster, self.tenant, job_id, is_over)) as events:
            for event in events:
                if not isinstance(event, ResultEvent):
                    yield event
                elif conflict := self._claims.conflict(event):
                    raise conflict
                else:
                    yield event
                    return
        self._check_open()
        if not wanted.is_set():
            raise ResultTimeout(job_id, timeout_s or 0.0)

    def status(self, job_id: str) -> JobStatus:
        """Where the job is: from Postgres if the client has a database and it answers, else from the topic.

        Raises:
            JobNotFound: there is no such job, or it was not admitted yet.
            ServerUnreachable: Kafka is away.
        """
        self._check_open()
        found = self._status(job_id)
        if found is None:
            raise JobNotFound(self.tenant, job_id)
        return found

    def jobs(self, most: int = 20) -> list[JobStatus]:
        """The tenant's last jobs, the newest first.

        Raises:
            InvalidSetting: the client has no database.
            ServerUnreachable: Postgres is away.
        """
        self._check_open()
        if self._archive is None:
            raise InvalidSetting("Jobs are listed from Postgres: set HEADRACE_DATABASE or pass its URL.")
        return self._archive.recent(most)

    def close(self) -> None:
        """Wait for what is on its way to Kafka, and stop everything; whoever waits gets ``ClientClosed``."""
        if self._closed.is_set():
            return
        self._closed.set()
        self._sender.close()
        self._searches.close()
        self._tail.close()
        self._cluster.close()
        if self._archive:
            self._archive.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _send(self, request: Request, job_id: str, traceparent: str | None = None) -> Future[str]:
        self._check_open()
        # Before it is sent, for the result may be quick. Only a new id: that of one used before may lie further back.
        if request.id is None:
            self._tail.expect(job_id)
        return self._sender.send(request, job_id, traceparent)

    def _want(self, wish: ControlEvent) -> None:
        self._check_open()
        self._sender.control(msgspec.structs.replace(wish, tenant=self.tenant)).result()

    def _check_open(self) -> None:
        if self._closed.is_set():
            raise ClientClosed

    def _status(self, job_id: str) -> JobStatus | None:
        if self._archive:
            try:
                return self._archive.job(job_id)
            except ServerUnreachable as error:
                logger.warning("%s Reading the status topic instead.", error)
        event = last_status(self._cluster, self.tenant, job_id)
        return JobStatus.of_event(event) if event else None
