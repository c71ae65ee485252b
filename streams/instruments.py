"""What the dispatcher measures."""

from runtime.monitoring import Metrics


class Instruments:
    """Every metric of the dispatcher's own, by the part that records it."""

    def __init__(self, metrics: Metrics) -> None:
        # Intake
        self.requests = metrics.counter(
            "headrace_intake_requests_total", "Requests read, by what became of them.", ("kind", "fate")
        )
        self.dead_letters = metrics.counter(
            "headrace_intake_dead_letters_total", "Requests that could not be admitted.", ("kind", "code")
        )
        self.chunk_s = metrics.histogram(
            "headrace_intake_chunk_seconds", "From a chunk of requests to its acknowledgement.", ("kind",)
        )
        self.latency_s = metrics.histogram(
            "headrace_intake_latency_seconds", "From a request's record to its row in the database.", ("kind",)
        )
        self.queue_full = metrics.gauge(
            "headrace_intake_paused", "1 while so many jobs wait that no requests are read."
        )
        self.missed = metrics.counter(
            "headrace_reconciler_missed_requests_total",
            "Requests that had neither a job nor a dead letter although they had been read.",
            ("kind",),
        )
        # Dispatch
        self.waiting = metrics.gauge(
            "headrace_dispatch_waiting_jobs", "Jobs in the scheduler, which holds the first ones.", ("kind",)
        )
        self.workers = metrics.gauge("headrace_dispatch_workers", "Workers that send heartbeats.")
        self.free = metrics.gauge("headrace_dispatch_free_slots", "Jobs that the workers could take.", ("kind",))
        self.leases = metrics.counter("headrace_dispatch_leases_total", "Jobs given to workers.", ("kind",))
        self.retold = metrics.counter(
            "headrace_dispatch_retold_total",
            "Jobs of which workers were told again: nobody renewed them.",
            ("kind",),
        )
        self.queued_s = metrics.histogram(
            "headrace_dispatch_queued_seconds", "From a job's admission to its lease.", ("kind",)
        )
        self.heartbeats = metrics.counter(
            "headrace_dispatch_heartbeats_total", "Heartbeats read, by what became of them.", ("fate",)
        )
        # Reaper and relay
        self.requeued = metrics.counter("headrace_reaper_requeued_jobs_total", "Jobs whose worker was lost.")
        self.poisoned = metrics.counter(
            "headrace_reaper_poisoned_jobs_total", "Jobs that failed because they lost every worker."
        )
        self.relayed = metrics.counter("headrace_relay_results_total", "Results that went from the outbox to Kafka.")
        # Control
        self.wishes = metrics.counter(
            "headrace_control_wishes_total",
            "Clients' wishes about jobs, and deadlines of jobs that wait, by what came of them.",
            ("action", "fate"),
        )
        # The bridge to Prometheus
        self.metrics_events = metrics.counter(
            "headrace_bridge_events_total", "Metrics events read, by what became of them.", ("fate",)
        )
        self.samples = metrics.counter(
            "headrace_history_samples_total", "Samples for the history in Postgres, by what became of them.", ("fate",)
        )
        self.sources = metrics.gauge("headrace_bridge_sources", "Processes whose metrics are served.")
