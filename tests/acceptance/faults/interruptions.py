"""Which executions a fault may have interrupted, and so which may be followed by another."""

from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise
from typing import Final

from tests.acceptance.faults.evidence import Evidence, Key, Window
from tests.acceptance.faults.executions import Execution
from tests.acceptance.faults.load import Flavour
from tests.acceptance.faults.wanting import Action

#: How long after its end a fault explains that a job runs again: until the leases that it cost have run out.
AFTERMATH_S: Final = 8.0
#: The end of an execution is stored so long after it, at the very most, while nothing is wrong.
STORED_S: Final = 2.0
#: So many a job has, and no more.
ATTEMPTS: Final = 3


def all_windows(evidence: Evidence) -> tuple[Window, ...]:
    """The times of all faults that cost jobs their attempt, the deaths of workers by poison among them."""
    return (*evidence.windows, *_poisonings(evidence))


def repeats(evidence: Evidence) -> Iterator[tuple[Execution, Execution]]:
    """Each execution of a job but its first, with the one before it, unless its client has paused the job."""
    paused = wished(evidence, Action.PAUSE)
    by_job: dict[Key, list[Execution]] = defaultdict(list)
    for execution in evidence.executions:
        by_job[execution.tenant, execution.job_id].append(execution)
    for key, executions in by_job.items():
        if key not in paused:
            yield from pairwise(executions)


def wished(evidence: Evidence, action: Action) -> set[Key]:
    """The jobs of which a client wanted this; nobody knows whether Kafka has the wishes that it did not acknowledge."""
    return {wish.key for wish in evidence.wishes if wish.action is action}


def unexplained(evidence: Evidence) -> Iterator[tuple[Execution, Execution]]:
    """Executions with the one before them which no fault interrupted."""
    windows = all_windows(evidence)
    for before, after in repeats(evidence):
        if not any(_explains(window, before, after) for window in windows):
            yield before, after


def may_be_poison(evidence: Evidence, key: Key) -> bool:
    """Whether faults can have cost a job all its attempts: each struck an execution, or the job before it ran.

    A job that kills its worker is struck by each of its own executions.
    """
    windows, runs = all_windows(evidence), _by_attempt(evidence, key)
    if evidence.jobs[key].attempt < ATTEMPTS:
        return False
    if key in wished(evidence, Action.PAUSE):
        # Each attempt may have gone on elsewhere, and was lost there before it ran.
        return bool(windows)
    elsewhere = (*evidence.windows, *_poisonings(evidence, but=key))
    if len(runs) < ATTEMPTS and not any(window.workers for window in elsewhere):
        return False
    return all(any(_struck(window, run) for window in windows for run in attempt) for attempt in runs.values())


def _by_attempt(evidence: Evidence, key: Key) -> dict[int, list[Execution]]:
    found: dict[int, list[Execution]] = defaultdict(list)
    for execution in evidence.executions:
        if (execution.tenant, execution.job_id) == key:
            found[execution.attempt].append(execution)
    return found


def in_flight(evidence: Evidence) -> int:
    """Executions that were begun and not stored when a fault struck their worker."""
    windows = all_windows(evidence)
    return sum(any(_struck(window, execution) for window in windows) for execution in evidence.executions)


def _poisonings(evidence: Evidence, but: Key | None = None) -> Iterator[Window]:
    """The deaths of workers by poison jobs, or by those other than one."""
    poison = {
        (operation.tenant, operation.job_id) for operation in evidence.operations if operation.flavour is Flavour.POISON
    } - {but}
    for execution in evidence.executions:
        if (execution.tenant, execution.job_id) in poison:
            workers = frozenset({execution.worker})
            yield Window(execution.begun_s, execution.begun_s + 1, workers, "poison")


def _explains(window: Window, before: Execution, after: Execution) -> bool:
    """Whether the fault cost the first its lease, or brought the second a lease that was lost."""
    if after.worker in window.workers and window.begin_s <= after.begun_s <= window.end_s + AFTERMATH_S:
        return True
    return _struck(window, before) and after.begun_s >= window.begin_s


def _struck(window: Window, execution: Execution) -> bool:
    ended_s = execution.ended_s + STORED_S if execution.ended_s is not None else window.begin_s
    in_time = execution.begun_s <= window.end_s + AFTERMATH_S and ended_s >= window.begin_s
    return execution.worker in window.workers and in_time
