"""How a run goes, all of it known before the first step: which examples each step has, and its learning rate.

The order is a function of the seed and the step alone, so a run can begin at any step.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, assert_never

import numpy as np
from numpy.typing import NDArray

from schemas.requests import Hyperparameters


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The steps of one run. Each takes ``batch_size`` examples, the last one what is left of the last epoch."""

    examples: int
    draws: int
    batch_size: int
    steps: int
    learning_rate: float
    schedule: Literal["linear", "cosine", "constant"]
    warmup_steps: int
    weight_decay: float
    max_grad_norm: float
    packing: bool
    seed: int

    @classmethod
    def of(cls, hyper: Hyperparameters, examples: int, seed: int) -> "Plan":
        """The plan for so many examples."""
        if hyper.max_steps is not None:
            draws = hyper.max_steps * hyper.batch_size
        else:
            draws = math.ceil(examples * (1.0 if hyper.epochs is None else hyper.epochs))
        return cls(
            examples=examples,
            draws=draws,
            batch_size=hyper.batch_size,
            steps=math.ceil(draws / hyper.batch_size),
            learning_rate=hyper.learning_rate,
            schedule=hyper.schedule,
            warmup_steps=hyper.warmup_steps,
            weight_decay=hyper.weight_decay,
            max_grad_norm=hyper.max_grad_norm,
            packing=hyper.packing,
            seed=seed,
        )

    def batch(self, step: int) -> list[int]:
        """The examples of a step, counted from 0: the next ones of the epoch's own order."""
        draws = range(step * self.batch_size, min((step + 1) * self.batch_size, self.draws))
        return [int(self._order(draw // self.examples)[draw % self.examples]) for draw in draws]

    def learning_rate_at(self, step: int) -> float:
        """The learning rate of a step, counted from 0: linear warm-up, then the schedule towards 0."""
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        done = (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps)
        match self.schedule:
            case "constant":
                return self.learning_rate
            case "linear":
                return self.learning_rate * (1 - done)
            case "cosine":
                return self.learning_rate * (1 + math.cos(math.pi * done)) / 2
            case unknown:
                assert_never(unknown)

    def _order(self, epoch: int) -> NDArray[np.int64]:
        return _permutation(self.seed, epoch, self.examples)


@lru_cache(maxsize=2)
def _permutation(seed: int, epoch: int, examples: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, epoch]).permutation(examples)
