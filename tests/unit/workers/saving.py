"""Checkpoints without a database, where the next attempt finds the last one in a directory; and a store that fails."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import msgspec

from runtime.artifacts import Artifact, ArtifactStore, ArtifactUnreachable
from runtime.artifacts.remote import RemoteStore
from runtime.monitoring import Metrics
from workers.checkpoints import Found

State = TypeVar("State", bound=msgspec.Struct)


class FailingArtifacts(ArtifactStore):
    """A store below a directory, which is away for the next publications, or while it is said to be ``lost``."""

    def __init__(self, directory: Path) -> None:
        super().__init__(RemoteStore(f"file://{directory}/store"), directory / "cache", None, Metrics("test"))
        self.failures: list[Exception] = []
        self.lost = False
        #: Called at each failure.
        self.listen: Callable[[], None] = lambda: None

    def publish(self, directory: Path) -> Artifact:
        """See ``ArtifactStore``."""
        if self.failures:
            self.listen()
            raise self.failures.pop()
        return super().publish(directory)

    def fetch(self, artifact_sha256: str, uri: str) -> Path:
        """See ``ArtifactStore``."""
        if self.lost:
            raise ArtifactUnreachable(uri, f"Artifact {artifact_sha256} can't be had.")
        return super().fetch(artifact_sha256, uri)


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
