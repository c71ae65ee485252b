"""The training loop: packed or padded batches, AdamW, a schedule, and everything that it has reached in one object.

Dropout stays off: it would draw from the process' generator, which other threads use, and a run would not
repeat. On one CPU, the same request gives the same weights bit for bit.
"""

import math
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import torch
import torch.nn.functional as F  # noqa: N812  its name everywhere

from schemas.errors import TrainingDiverged
from workers.models.room import room_for
from workers.progress import TrainStep
from workers.training.batches import Batch, packed, padded
from workers.training.packing import keeps_samples_apart
from workers.training.plan import Plan
from workers.training.samples import Sample
from workers.training.weights import Tuned

#: At most two reports a second: each one waits for the device.
REPORT_EVERY_S: Final = 0.5
#: What to do about a run for which there is no room.
ADVICE: Final = "Lower max_length or batch_size."
#: The part of a run, from its end, over which the result's loss is taken.
LOSS_PART: Final = 10


class Watcher(Protocol):
    """Who may stop a run, and is told how far it is."""

    def check(self) -> None:
        """Raises if the run shall stop."""

    def report(self, progress: TrainStep) -> None:
        """The run has come so far."""


@dataclass(frozen=True)
class Trained:
    """What a run came to; losses are means per trained token, in nats. ``tokens`` are those that were read."""

    steps: int
    tokens: int
    train_loss: float
    train_s: float


@dataclass
class Reached:
    """How far a run is: with the weights and the optimizer's state, all that it takes to go on.

    The learning rate and the examples of a step follow from its number, and nothing is drawn at random.
    """

    step: int = 0
    tokens: int = 0
    train_s: float = 0.0
    #: Summed losses and trained tokens of the last steps.
    losses: deque[tuple[float, int]] = field(default_factory=deque)


class TrainingRun:
    """One run over ``samples``. Blocking; for one thread."""

    def __init__(self, tuned: Tuned, samples: Sequence[Sample], plan: Plan) -> None:
        self.plan = plan
        self.reached = Reached(losses=deque(maxlen=max(1, plan.steps // LOSS_PART)))
        self.tuned = tuned
        self._samples = samples
        self._module = tuned.module
        self.parameters = tuned.named_parameters()
        self._parameters = list(self.parameters.values())
        self.optimizer = torch.optim.AdamW(
            self._parameters, lr=plan.learning_rate, weight_decay=plan.weight_decay, fused=True
        )
        with room_for("the training", ADVICE):
            self._batches = packed if plan.packing and keeps_samples_apart(self._module) else padded
        #: Summed loss, trained tokens and gradient norm of each step that was not looked at yet.
        self._unread: list[tuple[torch.Tensor, int, torch.Tensor]] = []

    def run(self, watcher: Watcher) -> Trained:
        """Train to the end of the plan; as ``advance``."""
        self.advance(watcher, math.inf)
        return self.trained()

    def advance(self, watcher: Watcher, for_s: float) -> bool:
        """Train for about ``for_s`` seconds; True once the plan is at its end.

        A stop leaves the run after its last whole step.

        Raises:
            TrainingDiverged: a loss or a gradient is not finite (final).
            OutOfMemory: the device's memory does not suffice (retryable).
            JobStopped, JobSuspended, LeaseLost: whatever ``watcher.check`` raises, within a step.
        """
        before_s = self.reached.train_s
        started_s = reported_s = time.perf_counter()
        now_s = started_s
        steps = self.plan.steps
        with room_for("the training", ADVICE):
            while self.reached.step < steps and now_s - started_s < for_s:
                self._step(watcher)
                now_s = time.perf_counter()
                self.reached.train_s = before_s + now_s - started_s
                if self.reached.step in (1, steps) or now_s - reported_s >= REPORT_EVERY_S:
                    watcher.report(self._progress())
                    reported_s = now_s
        return self.reached.step == steps

    def trained(self) -> Trained:
        """What the steps so far have come to; there is one at least."""
        self.read_losses()
        reached = self.reached
        losses, tokens = zip(*reached.losses, strict=True)
        return Trained(reached.step, reached.tokens, sum(losses) / sum(tokens), reached.train_s)

    def resume(self, reached: Reached) -> None:
        """Go on from there; weights and the optimizer's state are as they were then."""
        self.reached.step, self.reached.tokens, self.reached.train_s = reached.step, reached.tokens, reached.train_s
        self.reached.losses.extend(reached.losses)

    def mean_loss(self, samples: Sequence[Sample], watcher: Watcher) -> float:
        """The mean loss per trained token of other samples, with the weights as they are now."""
        total = torch.zeros((), device=self._module.device)
        with room_for("the validation", ADVICE), torch.no_grad():
            for first in range(0, len(samples), self.plan.batch_size):
                watcher.check()
                for batch in self._batches(samples[first : first + self.plan.batch_size]):
                    total += self._loss(batch)
        return total.item() / sum(sample.trained_tokens for sample in samples)

    def _step(self, watcher: Watcher) -> None:
        samples = [self._samples[index] for index in self.plan.batch(self.reached.step)]
        trained_tokens = sum(sample.trained_tokens for sample in samples)
        summed = torch.zeros((), device=self._module.device)
        for batch in self._batches(samples):
            watcher.check()
            loss = self._loss(batch)
            torch.autograd.backward(loss / trained_tokens)
            summed += loss.detach()
        norm = torch.nn.utils.clip_grad_norm_(self._parameters, self.plan.max_grad_norm, foreach=True)
        self._set_learning_rate(self.plan.learning_rate_at(self.reached.step))
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.reached.step += 1
        self.reached.tokens += sum(map(len, samples))
        self._unread.append((summed, trained_tokens, norm))

    def _loss(self, batch: Batch) -> torch.Tensor:
        """The summed loss of a batch's trained tokens, in nats."""
        on_device = batch.to(self._module.device)
        with torch.autocast(self._module.device.type, torch.bfloat16, enabled=self._module.device.type == "cuda"):
            output = self._module(input_ids=on_device.input_ids, position_ids=on_device.position_ids, use_cache=False)
        logits = output.logits.flatten(0, 1).index_select(0, on_device.sources)  # [trained, vocabulary]
        return F.cross_entropy(logits.float(), on_device.targets, reduction="sum")

    def _set_learning_rate(self, learning_rate: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate

    def read_losses(self) -> None:
        """Look at the losses since the last look; this waits for the device.

        Raises:
            TrainingDiverged: one of them, or a gradient, is not finite (final).
        """
        first = self.reached.step - len(self._unread)
        for step, (summed, tokens, norm) in enumerate(self._unread, start=first):
            loss = summed.item() / tokens
            if not math.isfinite(loss) or not math.isfinite(norm.item()):
                raise TrainingDiverged(step + 1, loss, self.plan.learning_rate_at(step))
            self.reached.losses.append((summed.item(), tokens))
        self._unread.clear()

    def _progress(self) -> TrainStep:
        self.read_losses()
        summed_loss, tokens = self.reached.losses[-1]
        step = self.reached.step
        return TrainStep(
            step=step,
            steps=self.plan.steps,
            loss=summed_loss / tokens,
            learning_rate=self.plan.learning_rate_at(step - 1),
            tokens_per_s=self.reached.tokens / self.reached.train_s,
            remaining_s=self.reached.train_s / step * (self.plan.steps - step),
        )
