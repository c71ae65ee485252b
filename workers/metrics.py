"""What a worker counts and measures."""

from typing import Final

from runtime.monitoring import Metrics

BATCH_JOBS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500)


class WorkerMetrics:
    """The worker's metrics by name; a job's labels are its kind and how it ended."""

    def __init__(self, metrics: Metrics) -> None:
        self.jobs = metrics.counter(
            "headrace_worker_jobs_total",
            "Attempts that ended: with a terminal status, as lost (lease) or as crashed (a bug).",
            ("kind", "status"),
        )
        self.run_s = metrics.histogram(
            "headrace_worker_job_run_seconds", "Time in the handler, of attempts that ended.", ("kind",)
        )
        self.slots_busy = metrics.gauge(
            "headrace_worker_slots_busy", "Jobs that this worker has taken, waiting ones too.", ("kind",)
        )
        self.slots = metrics.gauge("headrace_worker_slots", "Jobs that this worker takes at once.", ("kind",))
        self.leases_lost = metrics.counter(
            "headrace_worker_leases_lost_total", "Attempts whose lease went to another before their end."
        )
        self.settled = metrics.histogram(
            "headrace_worker_settle_batch_jobs",
            "Attempts whose ends were stored in one transaction.",
            bounds=BATCH_JOBS,
        )
        self.settle_s = metrics.histogram(
            "headrace_worker_settle_seconds", "Time until the ends of one batch were stored, retries included."
        )
        self.unwanted = metrics.counter(
            "headrace_worker_jobs_unwanted_total",
            "Jobs that came beyond what this worker asked for, and were given back.",
            ("kind",),
        )
        self.malformed = metrics.counter(
            "headrace_worker_records_malformed_total", "Work records that could not be read and were skipped."
        )
        self.unannounced = metrics.counter(
            "headrace_worker_announcements_dropped_total",
            "Progress and status events that were dropped because Kafka took no more.",
        )
