"""The events that tell the world about a job's state, but for the last one: that is the relay's."""

import logging

from runtime.kafka import Publisher
from schemas import topics
from schemas.errors import ServerUnreachable
from schemas.events import StatusEvent

log = logging.getLogger(__name__)


def publish_status(publisher: Publisher, status: StatusEvent, traceparent: str) -> None:
    """Key: the job id. Id: tenant, job, attempt, state and time: a job may be paused twice. A duplicate says the same.

    Nobody waits for it: where the broker has been away so long that the publisher's buffer is full, it
    is dropped, and the job's next state tells more.
    """
    try:
        publisher.publish(
            topics.STATUS,
            status,
            key=status.job_id,
            event_id=f"{status.tenant}/{status.job_id}/{status.attempt}/{status.state}/{status.at.timestamp():.6f}",
            traceparent=traceparent,
        )
    except ServerUnreachable as error:
        log.warning("Nobody is told that job %s is %s. %s", status.job_id, status.state, error)
