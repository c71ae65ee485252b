"""The platform's side of the topics, said by hand: what a dispatcher and a worker would publish."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from runtime.database.outbox import result_id
from runtime.kafka import Publisher
from schemas import topics
from schemas.codec import new_traceparent
from schemas.events import CountProgress, State, StatusEvent
from schemas.requests import DEFAULT_TENANT
from schemas.results import Choice, ErrorInfo, GenerateResult, Lineage, Result, ResultEvent, Terminal
from schemas.topics import Kind, Topic

FLUSH_S = 10.0


def answer(text: str = "2026-05-01") -> GenerateResult:
    """What a generation comes to."""
    return GenerateResult(choices=(Choice(0, 0, text, len(text), "stop"),))


class StubPlatform:
    """Publishes events of jobs; each call returns once Kafka has them."""

    def __init__(self, kafka: str) -> None:
        self._publisher = Publisher(kafka, "stub", linger_ms=0)

    def state(self, job_id: str, *states: State, tenant: str = DEFAULT_TENANT, at: datetime | None = None) -> None:
        """Tell states, one after the other."""
        for state in states:
            event = StatusEvent(
                job_id=job_id,
                tenant=tenant,
                kind=Kind.GENERATE,
                state=state,
                attempt=1,
                at=at or datetime.now(UTC),
                worker_id="worker-1",
            )
            self._publish(topics.STATUS, event, job_id, f"{tenant}/{job_id}/1/{state}")
        self._publisher.flush(FLUSH_S)

    def progress(self, job_id: str, *done: int, copies: int = 1, at: datetime | None = None) -> None:
        """Tell progress, each event as often as ``copies`` says."""
        for number in done:
            event = CountProgress(
                job_id=job_id,
                tenant=DEFAULT_TENANT,
                attempt=1,
                sequence=number,
                at=at or datetime.now(UTC),
                done=number,
                total=10,
                unit="tokens",
            )
            for _ in range(copies):
                self._publish(topics.PROGRESS, event, job_id, f"{job_id}/1/{number}")
        self._publisher.flush(FLUSH_S)

    def succeed(
        self, *job_ids: str, tenant: str = DEFAULT_TENANT, result: Result | None = None, request: str = ""
    ) -> None:
        """End jobs well; ``request`` is the digest of what they were asked for."""
        for job_id in job_ids:
            self._end(job_id, tenant, Terminal.SUCCEEDED, result or answer(), None, request)
        self._publisher.flush(FLUSH_S)

    def fail(self, job_id: str, code: str = "model_not_found", message: str = "no such model") -> None:
        """End a job badly."""
        self._end(job_id, DEFAULT_TENANT, Terminal.FAILED, None, ErrorInfo(code, message))
        self._publisher.flush(FLUSH_S)

    def garbage(self, topic: Topic, job_id: str, values: Sequence[bytes | None]) -> None:
        """Write values that are no events under the job's key."""
        for value in values:
            self._publisher.publish_raw(topic.name, job_id.encode(), value, [])
        self._publisher.flush(FLUSH_S)

    def close(self) -> None:
        """Close the connections."""
        self._publisher.close()

    def _end(
        self,
        job_id: str,
        tenant: str,
        status: Terminal,
        result: Result | None,
        error: ErrorInfo | None,
        request: str = "",
    ) -> None:
        event = ResultEvent(
            job_id=job_id,
            tenant=tenant,
            kind=Kind.GENERATE,
            status=status,
            attempt=1,
            finished_at=datetime.now(UTC) + timedelta(milliseconds=1),
            result=result,
            error=error,
            lineage=Lineage(request=request),
        )
        self._publish(topics.RESULTS, event, job_id, result_id(tenant, job_id))

    def _publish(self, topic: Topic, event: object, job_id: str, event_id: str) -> None:
        self._publisher.publish(topic, event, key=job_id, event_id=event_id, traceparent=new_traceparent())
