"""Fine-tuning: samples, batches, weights and the loop that brings them together."""

from workers.training.loop import Trained, TrainingRun
from workers.training.plan import Plan
from workers.training.samples import Sample, Samples, read_samples
from workers.training.weights import Tuned, prepare

__all__ = ["Plan", "Sample", "Samples", "Trained", "TrainingRun", "Tuned", "prepare", "read_samples"]
