"""Where the local stack keeps what it installs, and what each stack directory holds."""

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VAR = ROOT / "var"
KAFKA_CONFIGURATION = Path(__file__).parent / "kafka"
KAFKA_LIBRARIES = VAR / "kafka" / "libs"
DEFAULT_STACK = VAR / "stack"


@dataclass(frozen=True)
class StackPaths:
    """The files of the stack whose directory this is."""

    directory: Path

    @property
    def environment(self) -> Path:
        """The lines ``HEADRACE_...=...`` with which a process joins the stack."""
        folder = VAR if self.directory == DEFAULT_STACK else self.directory
        return folder / "stack.env"

    @property
    def state(self) -> Path:
        """What runs, for `down`, `up` and `headrace doctor`."""
        return self.directory / "state.json"

    @property
    def lock(self) -> Path:
        """Locked for as long as a supervisor lives."""
        return self.directory / "lock"

    @property
    def postgres(self) -> Path:
        """Postgres's files, or where they are."""
        return self.directory / "postgres"

    @property
    def logs(self) -> Path:
        """One log for each process."""
        return self.directory / "logs"

    @property
    def ready(self) -> Path:
        """The files which Headrace's processes touch when they serve."""
        return self.directory / "ready"

    @property
    def store(self) -> Path:
        """Datasets, adapters and checkpoints: what events refer to."""
        return self.directory / "store"

    @property
    def cache(self) -> Path:
        """The disk caches of the workers, a folder each."""
        return self.directory / "cache"

    def log(self, name: str) -> Path:
        """The log of one process."""
        return self.logs / f"{name}.log"
