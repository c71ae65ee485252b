"""The events that tell the world about a job: its latest state, and its end."""

import logging
from collections.abc import Sequence

from runtime.database import outcomes
from runtime.database.outcomes import result_id
from runtime.database.thread import DatabaseThread
from runtime.kafka import Publisher
from schemas import topics
from schemas.errors import ServerUnreachable
from schemas.events import StatusEvent
from schemas.results import ResultEvent
from streams.deliveries import Send, deliver

log = logging.getLogger(__name__)


def publish_status(publisher: Publisher, status: StatusEvent, traceparent: str) -> None:
    """Key: the job id. Id: tenant, job, attempt and state. A duplicate says the same.

    Nobody waits for it: where the broker has been away so long that the publisher's buffer is full, it
    is dropped, and the job's next state tells more.
    """
    try:
        publisher.publish(
            topics.STATUS,
            status,
            key=status.job_id,
            event_id=f"{status.tenant}/{status.job_id}/{status.attempt}/{status.state}",
            traceparent=traceparent,
        )
    except ServerUnreachable as error:
        log.warning("Nobody is told that job %s is %s. %s", status.job_id, status.state, error)


async def announce_ends(
    publisher: Publisher, database: DatabaseThread, ends: Sequence[tuple[ResultEvent, str]]
) -> None:
    """Publish terminal events, each with its traceparent, and drop the outbox rows of those that arrived.

    The relay publishes the others.
    """
    delivered = await deliver([_sender(publisher, event, traceparent) for event, traceparent in ends])
    gone = [(event.tenant, event.job_id) for (event, _), done in zip(ends, delivered, strict=True) if done]
    if gone:
        await database.insist(outcomes.announced, gone)


def _sender(publisher: Publisher, event: ResultEvent, traceparent: str) -> Send:
    """Key: the job id. Id: the same for every copy of a job's end, so that a duplicate can be told."""
    return lambda on_delivery: publisher.publish(
        topics.RESULTS,
        event,
        key=event.job_id,
        event_id=result_id(event.tenant, event.job_id),
        traceparent=traceparent,
        on_delivery=on_delivery,
    )
