"""Evaluate: score a model on a dataset, and compare it with a baseline on the same examples.

The metrics and their intervals are in ``evaluation``, the batched decoding in ``engine``.
"""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack
from itertools import chain, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Final

from schemas.errors import Unsupported, shown
from schemas.requests import EvaluateRequest
from schemas.results import EvaluateResult
from workers.context import JobContext
from workers.datasets import Example
from workers.evaluation.contender import Contender
from workers.evaluation.marks import Answer, expected, mark
from workers.evaluation.outputs import OUTPUTS_NAME, write_line
from workers.evaluation.questions import Survey, survey
from workers.evaluation.summary import Marks, judge
from workers.generate import gather
from workers.models import LoadedModel
from workers.tally import Tally

#: Examples that are in memory at once: several times the rows of a batch, so that batches stay full.
CHUNK_EXAMPLES: Final = 512


async def evaluate(request: EvaluateRequest, ctx: JobContext) -> EvaluateResult:
    """Score ``request.model``, and ``request.baseline`` where there is one, on every example.

    Answers are greedy. The steps: load, read all data once (so that a bad line costs no answer), answer
    and mark chunk by chunk, publish the outputs, resample. A crash leaves at most an artifact that
    nothing points to.

    Raises:
        ModelNotFound, ModelUnavailable, ModelRejected: as ``Models.borrow``, or a loss is not a number.
        DatasetUnreachable, DatasetInvalid: the data can't be used; the message names the line (final).
        Unsupported: ``task`` was asked for, or the tokenizer has no end token (final).
        OutOfMemory: the device's memory does not suffice (retryable).
        JobStopped, LeaseLost: seen at a decode step, or between two batches.
    """
    if request.dataset is None:
        raise Unsupported(f"Task {shown(request.task)} can't be run: this version evaluates datasets. Pass `dataset`.")
    async with AsyncExitStack() as lent:
        models = []
        for model_id in filter(None, (request.model, request.baseline)):
            borrowing = ctx.models.borrow(ctx.job.tenant, model_id, None, ctx.meter)
            models.append(await lent.enter_async_context(borrowing))
        ctx.meter.base, ctx.meter.adapter = models[0].ref.base, models[0].ref.adapter
        surveyed = await asyncio.to_thread(survey, ctx.datasets, request.dataset, request.max_examples, ctx.check)
        ctx.meter.dataset_sha256 = surveyed.sha256
        ctx.running()
        with TemporaryDirectory(prefix="headrace-outputs-") as directory:
            marks = await _answer_all(request, ctx, models, surveyed, Path(directory))
            artifact = await asyncio.to_thread(ctx.artifacts.publish, Path(directory))
    scores = await asyncio.to_thread(marks.scores, request.seed, ctx.check)
    return EvaluateResult(
        model=request.model,
        examples=len(marks),
        scores=scores,
        outputs_uri=f"{artifact.uri}/{OUTPUTS_NAME}",
        baseline=request.baseline,
        gate=judge(request.gate, scores) if request.gate else None,
    )


async def _answer_all(
    request: EvaluateRequest, ctx: JobContext, models: Sequence[LoadedModel], dataset: Survey, directory: Path
) -> Marks:
    """Answer and mark the dataset chunk by chunk; what the models gave goes into ``directory``."""
    assert request.dataset is not None
    tally = Tally(ctx, dataset.examples * len(models), "answers")
    contenders = [Contender(model, request, ctx, tally) for model in models]
    marks = Marks(request.metrics, compared=len(models) > 1)
    with ExitStack() as files:
        outputs = files.enter_context((directory / OUTPUTS_NAME).open("wb"))
        reading = await asyncio.to_thread(files.enter_context, ctx.datasets.open(request.dataset))
        examples = islice(reading, dataset.examples)
        while chunk := await asyncio.to_thread(_take, examples):
            answers = await gather([contender.answers(chunk) for contender in contenders])
            await asyncio.to_thread(_mark, chunk, [model.ref.id for model in models], answers, marks, outputs)
            ctx.check()
    return marks


def _take(examples: Iterator[Example]) -> list[Example]:
    return list(islice(examples, CHUNK_EXAMPLES))


def _mark(
    chunk: Sequence[Example], models: Sequence[str], answers: Sequence[Sequence[Answer]], marks: Marks, file: IO[bytes]
) -> None:
    """Mark a chunk's answers, of which there is a sequence a model, and write them down."""
    for example, *given in zip(chunk, *answers, strict=True):
        wanted = expected(example.record)
        marked = [[mark(metric, answer, wanted) for metric in marks.metrics] for answer in given]
        marks.add(list(chain.from_iterable(marked)))
        write_line(file, example, marks.metrics, list(zip(models, given, marked, strict=True)))
