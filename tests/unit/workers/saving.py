"""Checkpoints without a database: the last one lies in a directory, and the next attempt finds it there."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import msgspec

from workers.checkpoints import Found

State = TypeVar("State", bound=msgspec.Struct)


@dataclass
class KeptCheckpoints:
    """See ``Checkpoints``. A copy of each is kept in a directory of its own."""

    directory: Path
    every_s: float = 1e9
    positions: list[int] = field(default_factory=list)
    #: What the next looks fail with.
    failures: list[Exception] = field(default_factory=list)

    async def find(self, state: type[State]) -> Found[State] | None:
        if self.failures:
            raise self.failures.pop()
        if not self.positions:
            return None
        position = self.positions[-1]
        directory = self.directory / str(position)
        return Found(position, msgspec.json.decode((directory / "state.json").read_bytes(), type=state), directory)

    async def save(self, position: int, state: msgspec.Struct, write: Callable[[Path], None]) -> None:
        directory = self.directory / str(position)
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        write(directory)
        (directory / "state.json").write_bytes(msgspec.json.encode(state))
        self.positions.append(position)

    def ended(self) -> None:
        """They stay for the test to see."""


class NoCheckpoints:
    """See ``Checkpoints``. It keeps none."""

    every_s = 1e9

    async def find(self, _: type[State]) -> Found[State] | None:
        return None

    async def save(self, position: int, state: msgspec.Struct, write: Callable[[Path], None]) -> None:
        """Nothing is kept."""

    def ended(self) -> None:
        """Nothing was kept."""
