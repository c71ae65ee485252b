"""What the tests of artifacts share: something to publish, workers that do, and what goes wrong with files."""

import errno
import os
from pathlib import Path
from typing import NoReturn

from runtime.artifacts import ArtifactStore
from runtime.artifacts.redis_tier import RedisTier
from runtime.artifacts.remote import RemoteStore
from runtime.monitoring import Metrics


def write_adapter(directory: Path) -> Path:
    """A new directory that may be published."""
    directory.mkdir()
    (directory / "adapter_config.json").write_text('{"r": 4}')
    (directory / "adapter_model.safetensors").write_bytes(bytes(range(256)) * 16)
    return directory


class Worker:
    """A worker's store with a disk of its own."""

    def __init__(self, tmp_path: Path, name: str, redis: RedisTier | None = None) -> None:
        self.metrics = Metrics("test")
        self.store = ArtifactStore(RemoteStore(f"file://{tmp_path}/store"), tmp_path / name, redis, self.metrics)

    def reads(self, tier: str) -> float:
        samples = (sample for family in self.metrics.event().families for sample in family.samples)
        wanted = ("headrace_artifacts_reads_total", {"tier": tier})
        return sum(sample.value for sample in samples if (sample.name, sample.labels) == wanted)


def full(*_: object) -> NoReturn:
    """What a full disk answers."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def damage(file: Path, harm: str) -> None:
    """Harm a file: ``cut``, ``changed`` or ``missing``."""
    match harm:
        case "cut":
            file.write_bytes(file.read_bytes()[:-1])
        case "changed":
            file.write_bytes(b"!" + file.read_bytes()[1:])
        case _:
            file.unlink()
