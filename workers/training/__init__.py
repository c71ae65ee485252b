"""Fine-tuning: samples, batches, weights and the loop that brings them together."""

from workers.training.checkpoint import CheckpointUnusable, Recipe, TrainingState, restore, state_of, write
from workers.training.loop import Trained, TrainingRun
from workers.training.plan import Plan
from workers.training.samples import Sample, Samples, read_samples
from workers.training.weights import Tuned, prepare

__all__ = [
    "CheckpointUnusable", "Plan", "Recipe", "Sample", "Samples", "Trained", "TrainingRun", "TrainingState", "Tuned",
    "prepare", "read_samples", "restore", "state_of", "write",
]  # fmt: skip
