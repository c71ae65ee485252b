"""Announcements while Kafka is away."""

from runtime.kafka import BUFFERED_EVENTS, Publisher
from runtime.monitoring import Metrics
from schemas.events import State
from tests.unit.workers.fakes import job
from workers.announcer import KafkaAnnouncer
from workers.metrics import WorkerMetrics


def test_what_a_full_buffer_refuses_is_dropped_and_counted() -> None:
    metrics = Metrics("test")
    publisher = Publisher("127.0.0.1:1", "test")
    try:
        announcer = KafkaAnnouncer(publisher, "worker-1", WorkerMetrics(metrics))
        for _ in range(BUFFERED_EVENTS):
            publisher.publish_raw("headrace.progress.v1", None, None, [])
        announcer.status(job(), State.RUNNING)
    finally:
        publisher.close(timeout_s=0)
    dropped = "headrace_worker_announcements_dropped_total"
    assert [s.value for family in metrics.event().families for s in family.samples if s.name == dropped] == [1]
