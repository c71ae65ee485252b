"""A lease as it was taken: with its job as it is given away, or with the job itself when that is admitted."""

from dataclasses import dataclass
from datetime import datetime

from schemas.events import Lease
from schemas.requests import Job


@dataclass(frozen=True)
class LeasedJob:
    """A job with the lease that was taken for a worker."""

    job: Job
    lease: Lease
    scheduled_at: datetime
