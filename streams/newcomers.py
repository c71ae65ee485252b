"""Which of the jobs that have just come may go at once, beside those that wait: a pure function."""

from collections.abc import Iterable, Set

from runtime.database.jobs import QueuedJob
from streams.lanes import Lane


def newcomers(jobs: Iterable[QueuedJob], lane: Lane, room: int, held: Set[str] | None) -> list[QueuedJob]:
    """Those that may go before the jobs of ``lane``, which is of their kind; each id once.

    These are as many as ``room``, the slots that those in the lane leave free; and any whose turn it would be: whose
    tenant has none in the lane, where no higher priority waits. ``held`` are the models in the workers' memory where
    some models wait to be loaded: then no other is loaded before them, and their jobs keep their order.
    """
    going: dict[tuple[str, str], QueuedJob] = {}
    for job in jobs:
        key = (job.tenant, job.id)
        has_turn = job.tenant not in lane.by_tenant and job.priority <= lane.highest
        waits = held is not None and (job.model not in held or job.model in lane.parking)
        if (has_turn or room > 0) and not waits and key not in going and key not in lane.jobs:
            going[key] = job
            room -= not has_turn
    return list(going.values())
