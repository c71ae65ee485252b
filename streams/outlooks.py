"""When a waiting job starts, about."""

from dataclasses import dataclass

from runtime.database.jobs import QueuedJob


@dataclass(frozen=True)
class Outlook:
    """When a job's turn comes, about: how many jobs go before it, and in how many seconds it starts."""

    job: QueuedJob
    position: int
    starts_in_s: float


def outlook(job: QueuedJob, position: int, *, free: int, slots: int, run_s: float) -> Outlook:
    """The outlook of the job at a position, where so many of the workers' slots are free, and a job runs for ``run_s``.

    Those in the slots have to end before: on average one slot is free after each part of a run.
    """
    ahead = position + (0 if free > position else 1)
    return Outlook(job, position, ahead * run_s / max(1, slots))
