"""Evaluate: score a model on a dataset, and compare it with a baseline on the same examples.

The metrics and their intervals are in ``evaluation``, the batched decoding in ``engine``.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Final

from runtime.artifacts import Artifact
from schemas.errors import JobSuspended, Unsupported, shown
from schemas.requests import Dataset, EvaluateRequest
from schemas.results import EvaluateResult, Score
from workers.context import JobContext
from workers.datasets import Example
from workers.evaluation.checkpoint import Basis, EvaluationState, restore, write
from workers.evaluation.contender import Contender
from workers.evaluation.marks import Answer, expected, mark
from workers.evaluation.outputs import OUTPUTS_NAME, append, line_of
from workers.evaluation.questions import Survey, survey
from workers.evaluation.summary import Marks, judge
from workers.generate import gather
from workers.models import LoadedModel
from workers.models.directory import content_digest
from workers.outages import borrow, insist
from workers.progress import LogLine
from workers.tally import Tally

log = logging.getLogger(__name__)

#: Examples that are in memory at once: several times the rows of a batch, so that batches stay full.
CHUNK_EXAMPLES: Final = 512


async def evaluate(request: EvaluateRequest, ctx: JobContext) -> EvaluateResult:
    """Score ``request.model``, and ``request.baseline`` where there is one, on every example.

    Answers are greedy. The steps: load, read all data once (so that a bad line costs no answer), go on from
    where an attempt before this one stood, answer and mark chunk by chunk, resample, publish the outputs. A
    crash leaves at most an artifact that nothing points to.

    Raises:
        ModelNotFound, ModelUnavailable, ModelRejected: as ``Models.borrow``, or a loss is not a number.
        ServerUnreachable: the store can't give a model now: the job is put off.
        DatasetUnreachable, DatasetInvalid: the data can't be used, or was changed; the message names the line (final).
        Unsupported: ``task`` was asked for, or the tokenizer has no end token (final).
        OutOfMemory: the device's memory does not suffice (retryable).
        JobStopped, JobSuspended, LeaseLost: seen at a decode step, or between two batches.
    """
    if request.dataset is None:
        raise Unsupported(f"Task {shown(request.task)} can't be run: this version evaluates datasets. Pass `dataset`.")
    async with AsyncExitStack() as kept:
        directory = await insist(ctx, lambda: asyncio.to_thread(kept.enter_context, ctx.artifacts.scratch()))
        async with AsyncExitStack() as lent:
            models = []
            for model_id in filter(None, (request.model, request.baseline)):
                models.append(await lent.enter_async_context(borrow(ctx, model_id)))
            ctx.meter.base, ctx.meter.adapter = models[0].ref.base, models[0].ref.adapter
            surveyed = await asyncio.to_thread(survey, ctx.datasets, request.dataset, request.max_examples, ctx.check)
            ctx.meter.dataset_sha256 = surveyed.sha256
            digests = [await asyncio.to_thread(content_digest, *model.directories) for model in models]
            ctx.running()
            basis = Basis(surveyed.sha256, surveyed.examples, tuple(digests))
            scoring = _Scoring(request, ctx, basis, directory)
            await scoring.resume()
            await scoring.answer(request.dataset, surveyed, models)
        scores = await scoring.scores()
        artifact = await scoring.publish()
    return EvaluateResult(
        model=request.model,
        examples=surveyed.examples,
        scores=scores,
        outputs_uri=f"{artifact.uri}/{OUTPUTS_NAME}",
        baseline=request.baseline,
        gate=judge(request.gate, scores) if request.gate else None,
    )


class _Scoring:
    """The scoring of one attempt, between the checkpoint that it found and those that it leaves."""

    def __init__(self, request: EvaluateRequest, ctx: JobContext, basis: Basis, directory: Path) -> None:
        self._request, self._ctx, self._basis = request, ctx, basis
        self._directory, self._outputs = directory, directory / OUTPUTS_NAME
        self._marks = Marks(request.metrics, compared=request.baseline is not None)
        #: Of prompts and completions, as of the last whole chunk: what is scored again is not counted again.
        self._tokens = (0, 0)

    async def resume(self) -> None:
        """Go on from the job's checkpoint; from the beginning where there is none, or none of this basis."""
        ctx = self._ctx
        found = await insist(ctx, lambda: ctx.checkpoints.find(EvaluationState))
        if found is None:
            return
        try:
            if found.state.basis != self._basis:
                raise ValueError("the data or the models are not those that it was made from")
            restoring = partial(restore, self._marks, self._outputs, found.directory)
            await insist(ctx, lambda: asyncio.to_thread(restoring))
        except ValueError as error:
            log.warning("job %s: its checkpoint can't be used, it starts over: %s", ctx.job.id, error)
            return
        found.state.add_to(ctx.meter)
        self._tokens = (ctx.meter.prompt_tokens, ctx.meter.completion_tokens)
        ctx.report(LogLine("info", f"Goes on after {len(self._marks):,} examples, where an earlier lease has left it."))

    async def answer(self, dataset: Dataset, surveyed: Survey, models: Sequence[LoadedModel]) -> None:
        """Answer and mark the rest of the dataset chunk by chunk."""
        ctx, done, total = self._ctx, len(self._marks), surveyed.examples
        tally = Tally(ctx, total * len(models), "answers", done * len(models))
        contenders = [Contender(model, self._request, ctx, tally) for model in models]
        now_s = asyncio.get_running_loop().time
        async with self._suspensible(), AsyncExitStack() as files:
            reading = await asyncio.to_thread(files.enter_context, ctx.datasets.open(dataset))
            examples = islice(reading, done, total)
            saved_s = now_s()
            while chunk := await asyncio.to_thread(_take, examples):
                answers = await gather([contender.answers(chunk) for contender in contenders])
                ids = [model.ref.id for model in models]
                marking = partial(_mark, chunk, ids, answers, self._marks, self._outputs)
                await insist(ctx, partial(asyncio.to_thread, marking))
                self._tokens = (ctx.meter.prompt_tokens, ctx.meter.completion_tokens)
                ctx.check()
                if now_s() - saved_s >= ctx.checkpoints.every_s:
                    await self._save()
                    saved_s = now_s()
            surveyed.confirm(len(self._marks), reading.sha256)

    async def scores(self) -> tuple[Score, ...]:
        """A score a metric, with its interval."""
        async with self._suspensible():
            return await asyncio.to_thread(self._marks.scores, self._request.seed, self._ctx.check)

    async def publish(self) -> Artifact:
        """Make the outputs available; that is waited for, however long the store is away."""
        async with self._suspensible():
            publishing = partial(self._ctx.artifacts.publish, self._directory)
            return await insist(self._ctx, lambda: asyncio.to_thread(publishing))

    @asynccontextmanager
    async def _suspensible(self) -> AsyncIterator[None]:
        """Where stops are answered: a suspended job leaves a checkpoint of its whole chunks, any other one nothing."""
        try:
            yield
        except JobSuspended:
            await self._save()
            raise

    async def _save(self) -> None:
        if not len(self._marks):
            return
        state = EvaluationState(self._basis, *self._tokens, self._ctx.meter.device_s)
        await self._ctx.checkpoints.save(
            len(self._marks), state, lambda directory: write(self._marks, self._outputs, directory)
        )


def _take(examples: Iterator[Example]) -> list[Example]:
    return list(islice(examples, CHUNK_EXAMPLES))


def _mark(
    chunk: Sequence[Example], models: Sequence[str], answers: Sequence[Sequence[Answer]], marks: Marks, outputs: Path
) -> None:
    """Mark a chunk's answers, of which there is a sequence a model, and write them down.

    Raises:
        OSError: the disk does not take them; nothing is marked.
    """
    rows, lines = [], []
    for example, *given in zip(chunk, *answers, strict=True):
        wanted = expected(example.record)
        marked = [[mark(metric, answer, wanted) for metric in marks.metrics] for answer in given]
        rows.append(list(chain.from_iterable(marked)))
        lines.append(line_of(example, marks.metrics, list(zip(models, given, marked, strict=True))))
    append(outputs, b"".join(lines))
    for row in rows:
        marks.add(row)
