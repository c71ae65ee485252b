"""What the tests of fine-tuning share: a tiny model, samples of it, and a watcher that notes what it is told."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import torch

from schemas.errors import JobCancelled
from schemas.requests import Dataset, Hyperparameters, Method, Record
from tests.tiny_models import save_tiny_model
from workers.datasets import Datasets
from workers.models import LoadedModel
from workers.models.loading import load_base
from workers.progress import TrainStep
from workers.training import Plan, Sample, TrainingRun, Tuned, prepare, read_samples

SUMS: Final = tuple(Record(f"{a}+{b}{' ' * (a % 3)}=", str(a + b)) for a in range(9) for b in range(0, 9, 1 + a % 2))


@dataclass
class Watcher:
    """Notes the reports; stops the run at its ``stop_at``-th check."""

    stop_at: int | None = None
    checks: int = 0
    steps: list[TrainStep] = field(default_factory=list)

    def check(self) -> None:
        self.checks += 1
        if self.checks == self.stop_at:
            raise JobCancelled("enough")

    def report(self, progress: TrainStep) -> None:
        self.steps.append(progress)


def load_tiny(directory: Path, architecture: str = "llama") -> LoadedModel:
    """A tiny model from files of its own."""
    save_tiny_model(directory, architecture)
    return load_base(architecture, f"key of {directory}", directory, torch.device("cpu"))


def samples_of(model: LoadedModel, records: Iterable[Record] = SUMS) -> Sequence[Sample]:
    """Records as the model's tokens."""
    dataset = Dataset(records=tuple(records))
    return read_samples(Datasets([]), dataset, model, None, Watcher().check).items


def start(model: LoadedModel, hyper: Hyperparameters, method: Method, seed: int = 0) -> tuple[Tuned, TrainingRun]:
    """A run over the sums, before its first step."""
    samples = samples_of(model)
    tuned = prepare(model, method, seed)
    return tuned, TrainingRun(tuned, samples, Plan.of(hyper, len(samples), seed))
