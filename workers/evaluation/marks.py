"""One example's marks: what a metric says of one answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Final, assert_never

import numpy as np
from sacrebleu.metrics.chrf import CHRF

from schemas.errors import ModelRejected
from schemas.requests import Metric, Record
from workers.engine.losses import Loss
from workers.evaluation.bootstrap import Numbers

_chrf: Final = CHRF()
#: e to this is the largest perplexity that is told apart; the next powers are no finite number.
_LARGEST_LOSS_NATS: Final = 700.0


@dataclass(frozen=True, slots=True)
class Mark:
    """An example's part in a metric, which is the sum of totals over the sum of weights.

    The weight is 1 where every example counts the same; for perplexity it is the completion's tokens.
    """

    total: float
    weight: float = 1.0

    def score(self, metric: Metric) -> float:
        """The metric of this example alone."""
        return float(statistic(metric, np.array(self.total / self.weight)))


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model gave for one example; None what no metric asked for."""

    text: str | None
    loss: Loss | None


def needs_text(metrics: Sequence[Metric]) -> bool:
    """Whether a metric looks at what the model writes."""
    return any(metric is not Metric.PERPLEXITY for metric in metrics)


def needs_loss(metrics: Sequence[Metric]) -> bool:
    """Whether a metric looks at how likely the model finds the wanted answer."""
    return Metric.PERPLEXITY in metrics


def expected(record: Record) -> str:
    """The answer that an example's author wants."""
    return (record.completion or "") if record.messages is None else record.messages[-1].content


def mark(metric: Metric, answer: Answer, expected: str) -> Mark:
    """What the metric says of the answer.

    chrF is a mean over sentences here, not over a corpus: only a mean of examples can be resampled.

    Raises:
        ModelRejected: the model's loss is not a number (final).
    """
    match metric:
        case Metric.EXACT_MATCH:
            return Mark(float((answer.text or "").strip() == expected.strip()))
        case Metric.CHRF:
            return Mark(_chrf.sentence_score(answer.text or "", [expected]).score)
        case Metric.PERPLEXITY:
            assert answer.loss is not None
            if not isfinite(answer.loss.nats):
                raise ModelRejected(
                    f"The model's loss on {expected[:40]!r} is {answer.loss.nats}: its weights are broken."
                )
            return Mark(answer.loss.nats, float(answer.loss.tokens))
        case unknown:
            assert_never(unknown)


def statistic(metric: Metric, means: Numbers) -> Numbers:
    """The metric's value for means of totals over weights."""
    return np.exp(np.minimum(means, _LARGEST_LOSS_NATS)) if metric is Metric.PERPLEXITY else means
