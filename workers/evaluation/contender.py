"""One of the models that an evaluation compares: its answers to a chunk of examples."""

import time
from collections.abc import Sequence

from schemas.requests import EvaluateRequest
from workers.context import JobContext
from workers.datasets import Example
from workers.engine import Sampling
from workers.engine.losses import Loss, Pair, completion_losses
from workers.evaluation.marks import Answer, needs_loss, needs_text
from workers.evaluation.questions import encode
from workers.generate import gather
from workers.models import LoadedModel
from workers.tally import Tally


class Contender:
    """A model and what it is asked."""

    def __init__(self, model: LoadedModel, request: EvaluateRequest, ctx: JobContext, tally: Tally) -> None:
        self.model = model
        self._ctx, self._tally = ctx, tally
        self._writes = needs_text(request.metrics)
        self._reads = needs_loss(request.metrics)
        self._sampling = Sampling(max_tokens=request.max_tokens)

    async def answers(self, examples: Sequence[Example]) -> list[Answer]:
        """What the model writes, greedily, and its loss on the wanted answer: each where a metric needs it."""
        pairs = await self._ctx.models.tokenize(self._encode, examples)
        losses = await self._losses(pairs) if self._reads else [None] * len(pairs)
        texts = await gather([self._text(pair) for pair in pairs]) if self._writes else [None] * len(pairs)
        if not self._writes:
            self._tally.add(len(pairs))
        return [Answer(text, loss) for text, loss in zip(texts, losses, strict=True)]

    def _encode(self, examples: Sequence[Example]) -> list[Pair]:
        max_tokens = self._sampling.max_tokens if self._writes else 0
        return [encode(self.model, example, max_tokens) for example in examples]

    async def _text(self, pair: Pair) -> str:
        answer = await self._ctx.engine.submit(
            self.model,
            pair.prompt_ids,
            self._sampling,
            check=self._ctx.check,
            priority=self._ctx.job.request.priority,
        )
        meter = self._ctx.meter
        meter.prompt_tokens += len(pair.prompt_ids)
        meter.completion_tokens += len(answer.token_ids)
        meter.device_s += answer.device_s
        self._tally.add()
        return answer.text

    async def _losses(self, pairs: Sequence[Pair]) -> list[Loss]:
        losses, device_s = await self._ctx.run(_timed_losses, self.model, pairs, self._ctx)
        # The scored answers were given, not written: they count as prompt.
        self._ctx.meter.prompt_tokens += sum(map(len, pairs))
        self._ctx.meter.device_s += device_s
        return losses


def _timed_losses(model: LoadedModel, pairs: Sequence[Pair], ctx: JobContext) -> tuple[list[Loss], float]:
    started_s = time.perf_counter()
    losses = completion_losses(model, pairs, ctx.check)
    return losses, time.perf_counter() - started_s
