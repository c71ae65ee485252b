"""Progress and status events of jobs, for whoever watches them."""

from datetime import UTC, datetime

from runtime.kafka import Publisher
from schemas import topics
from schemas.codec import child_traceparent
from schemas.errors import ServerUnreachable
from schemas.events import ProgressEvent, State, StatusEvent
from schemas.requests import Job
from workers.metrics import WorkerMetrics


class KafkaAnnouncer:
    """Publishes in any thread without waiting; what Kafka's full buffer refuses is dropped and counted.

    Keyed by job, so that one job's events stay in order. The ids are the same for every copy of an event.
    """

    def __init__(self, publisher: Publisher, worker_id: str, metrics: WorkerMetrics) -> None:
        self._publisher = publisher
        self._worker_id = worker_id
        self._metrics = metrics

    def progress(self, job: Job, event: ProgressEvent) -> None:
        """Publish how far an attempt is."""
        self._publish(topics.PROGRESS, job, event, f"progress/{event.sequence}")

    def status(self, job: Job, state: State) -> None:
        """Publish a job's new state."""
        event = StatusEvent(
            job_id=job.id,
            tenant=job.tenant,
            kind=job.kind,
            state=state,
            attempt=job.attempt,
            at=datetime.now(UTC),
            worker_id=self._worker_id,
        )
        self._publish(topics.STATUS, job, event, state.value)

    def _publish(self, topic: topics.Topic, job: Job, event: ProgressEvent | StatusEvent, name: str) -> None:
        try:
            self._publisher.publish(
                topic,
                event,
                key=job.id,
                # An attempt that was given back begins anew, and is in each state once more.
                event_id=f"{job.tenant}/{job.id}/{job.attempt}/{name}/{event.at.timestamp():.6f}",
                traceparent=child_traceparent(job.traceparent),
            )
        except ServerUnreachable:
            self._metrics.unannounced.inc()
