"""What a task tells of itself: its state, its progress, and when it came to them."""

from typing import Final, Literal

from msgspec import Struct

from runtime.tasks.errors import Failure

State = Literal["queued", "running", "succeeded", "failed", "cancelled", "expired"]
#: Why a task shall stop, and the state that it then ends in.
Reason = Literal["cancelled", "expired"]
ENDED: Final = frozenset[State]({"succeeded", "failed", "cancelled", "expired"})


class Progress(Struct, frozen=True):
    """How far a task is: ``done`` of ``total``, in whatever it counts."""

    done: float = 0
    total: float | None = None
    message: str = ""


#: Of a task that has told nothing.
NO_PROGRESS: Final = Progress()


class TaskStatus(Struct, frozen=True, omit_defaults=True):
    """A task at a moment. Times are Unix times in seconds; readers ignore fields that they don't know."""

    id: str
    name: str
    pool: str
    state: State
    submitted_at: float
    progress: Progress = NO_PROGRESS
    started_at: float | None = None
    ended_at: float | None = None
    failure: Failure | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing more happens to it."""
        return self.state in ENDED
