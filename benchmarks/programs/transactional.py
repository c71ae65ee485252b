"""``python -m benchmarks.programs.transactional SOURCE TARGET RECORDS``: a confluent-kafka loop, exactly once.

Consume, transform, produce in Kafka transactions of 500 records (KIP-447): the consumer's offsets are part of each.
It does with a record what the intake and the dispatch do: decode and validate it, and write the work event that
follows. It has no database, so it knows no duplicates and takes no leases.
"""

import os
import sys
from datetime import UTC, datetime
from typing import Final
from uuid import uuid4

from confluent_kafka import Consumer, Message, Producer

from schemas.codec import Envelope, decode_request, encode, new_traceparent
from schemas.events import Lease, WorkEvent
from schemas.requests import Job
from schemas.topics import WORK, Kind

BATCH_RECORDS: Final = 500
TIMEOUT_S: Final = 30.0


def work_event(message: Message) -> tuple[bytes, list[tuple[str, bytes]]]:
    """The value and the headers that follow from a request."""
    request = decode_request(Kind.GENERATE, message.value(), {})
    now, job_id, trace = datetime.now(UTC), request.id or "", new_traceparent()
    job = Job(
        id=job_id, tenant=request.tenant, request=request, attempt=1, submitted_at=now, queued_at=now,
        traceparent=trace, request_sha256="",
    )  # fmt: skip
    event = WorkEvent(job=job, lease=Lease(request.tenant, job_id, 1, "worker"), scheduled_at=now)
    envelope = Envelope(id=job_id, source="benchmark", type=WORK.name, subject=job_id, time=now, traceparent=trace)
    return encode(event), envelope.headers()


def run(kafka: str, source: str, target: str, records: int) -> None:
    """Handle so many records."""
    group = f"bench-{uuid4().hex[:8]}"
    consumer = Consumer(
        {
            "bootstrap.servers": kafka,
            "group.id": group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
        }
    )
    producer = Producer({"bootstrap.servers": kafka, "transactional.id": group, "compression.type": "lz4"})
    producer.init_transactions(TIMEOUT_S)
    consumer.subscribe([source])
    while records > 0:
        messages = consumer.consume(min(BATCH_RECORDS, records), timeout=1.0)
        if not messages:
            continue
        producer.begin_transaction()
        for message in messages:
            value, headers = work_event(message)
            producer.produce(target, value, message.key(), headers=list(headers))
        offsets = consumer.position(consumer.assignment())
        producer.send_offsets_to_transaction(offsets, consumer.consumer_group_metadata(), TIMEOUT_S)
        producer.commit_transaction(TIMEOUT_S)
        records -= len(messages)
    consumer.close()


if __name__ == "__main__":
    run(os.environ["HEADRACE_KAFKA"], sys.argv[1], sys.argv[2], int(sys.argv[3]))
