"""What only a client can raise."""

from schemas.errors import HeadraceError
from schemas.events import FINAL_STATES, State
from schemas.topics import DAY_MS, RESULTS


class ClientClosed(HeadraceError):
    """The client was closed before, or while it was asked."""

    code = "client_closed"

    def __init__(self) -> None:
        super().__init__("The client is closed. Jobs go on; connect again to ask for their results.")


class NotRetried(HeadraceError):
    """The job is in a state in which there is nothing to try again."""

    code = "not_retried"

    def __init__(self, job_id: str, state: State) -> None:
        advice = (
            "Submit its request under a new id."
            if state in FINAL_STATES
            else "Wait for its end, or cancel it first to run it anew."
        )
        super().__init__(
            f"Job {job_id!r} is {state}; only one that has failed, was cancelled or has expired is retried. {advice}"
        )


class ResultGone(HeadraceError):
    """The job has ended, and its result is kept no longer where the client may look."""

    code = "result_gone"

    def __init__(self, job_id: str) -> None:
        days = (RESULTS.retention_ms or 0) // DAY_MS
        super().__init__(
            f"Job {job_id!r} has ended, and its result is not on the results topic, which keeps one for {days} days. "
            "Postgres has it: connect with a database (--database, HEADRACE_DATABASE)."
        )


class DeadLetterNotFound(HeadraceError):
    """There is no dead letter at this place."""

    code = "dead_letter_not_found"

    def __init__(self, position: str) -> None:
        super().__init__(
            f"There is no dead letter at {position!r}: it was never written, or is older than its topic keeps. "
            "`headrace dlq ls` lists them."
        )
