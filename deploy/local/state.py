"""What a supervisor says about its stack, in a file that `up`, `down` and `headrace doctor` read."""

import os
from enum import Enum
from pathlib import Path
from typing import Self

import msgspec

#: The dispatcher's address for metrics, which a stack of servers alone lacks.
METRICS_ADDRESS = "HEADRACE_METRICS"


class Phase(Enum):
    """How far a stack is."""

    STARTING = "starting"
    READY = "ready"
    #: A process ended by itself. The others go on; the supervisor restarts nothing.
    DEGRADED = "degraded"
    STOPPING = "stopping"
    #: It never became ready; ``StackState.error`` says why.
    FAILED = "failed"


class ProcessIdentity(msgspec.Struct, frozen=True):
    """A process that can't be mistaken for a later one with the same number."""

    pid: int
    #: Clock ticks between the machine's boot and the process's start.
    started_ticks: int

    @classmethod
    def of(cls, pid: int) -> Self | None:
        """The process that has ``pid`` now, or None; one that has ended is none, even if nobody reaped it."""
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return None
        # proc(5): the name, field 2, is in parentheses and may hold anything; the state is field 3, the
        # start field 22.
        fields = stat.rpartition(")")[2].split()
        return None if fields[0] == "Z" else cls(pid, int(fields[19]))

    def open(self) -> int | None:
        """A pidfd of this very process, which the caller closes; None if it is gone."""
        try:
            pidfd = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return None
        # Compared after the descriptor pins the process, so the number can't be reused in between.
        if ProcessIdentity.of(self.pid) == self:
            return pidfd
        os.close(pidfd)
        return None

    def runs(self) -> bool:
        """Whether the process is still there."""
        pidfd = self.open()
        if pidfd is None:
            return False
        os.close(pidfd)
        return True


class ServiceState(msgspec.Struct, frozen=True):
    """One process of the stack."""

    name: str
    pid: int
    log: str
    exit_code: int | None = None


class StackState(msgspec.Struct, frozen=True):
    """The stack as its supervisor last saw it."""

    supervisor: ProcessIdentity
    phase: Phase
    services: tuple[ServiceState, ...] = ()
    environment: dict[str, str] = {}
    error: str = ""

    def ended(self) -> tuple[ServiceState, ...]:
        """The processes that are not there any more."""
        return tuple(service for service in self.services if service.exit_code is not None)

    def has_processes(self) -> bool:
        """Whether Headrace's own processes belong to the stack, not just servers."""
        return METRICS_ADDRESS in self.environment


def read_state(path: Path) -> StackState | None:
    """The state in ``path``, or None where no supervisor has written."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=StackState)
    except FileNotFoundError:
        return None


def write_private(path: Path, content: bytes) -> None:
    """Replace ``path`` at once, so that no reader sees half of it. Only its owner may read it."""
    unfinished = path.with_name(path.name + ".new")
    unfinished.unlink(missing_ok=True)
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode=0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    unfinished.replace(path)
