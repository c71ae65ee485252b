"""What the supervisor runs: plain descriptions of commands and services."""

import signal
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from schemas.errors import HeadraceError


class StackError(HeadraceError):
    """The local stack cannot start or stop; the message says what happened and what to do."""

    code = "stack"


@dataclass(frozen=True)
class Command:
    """A program with its arguments, its additions to the environment, and its user ("" is ourselves)."""

    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    user: str = ""
    cwd: Path | None = None


@dataclass(frozen=True)
class Creation:
    """A directory that ``commands`` make at ``path.new``, one after the other, once.

    It is renamed to ``path`` when they have succeeded, so a crash in between leaves nothing that
    looks complete.
    """

    path: Path
    commands: tuple[Command, ...]

    @property
    def unfinished(self) -> Path:
        """Where the commands write."""
        return being_made(self.path)


def being_made(path: Path) -> Path:
    """The name that ``path`` has until it is complete."""
    return path.with_name(path.name + ".new")


@dataclass(frozen=True)
class Service:
    """A process that runs until it is stopped."""

    name: str
    command: Command
    #: True once it serves; asked every few milliseconds, so it must answer fast.
    is_healthy: Callable[[], Awaitable[bool]]
    creations: tuple[Creation, ...] = ()
    #: Services of a higher rank end before those of a lower one, equal ones together.
    stop_rank: int = 0
    stop_signal: signal.Signals = signal.SIGTERM
    #: Sent by the kernel if the supervisor dies.
    death_signal: signal.Signals = signal.SIGKILL
    #: How long it may take to be healthy, and to end after ``stop_signal`` before it is killed.
    start_s: float = 120.0
    stop_s: float = 10.0
