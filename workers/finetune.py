"""Fine-tune: one request in, one published model out, however many attempts it takes to train it."""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Final, TypeVar

from runtime.artifacts import Artifact, ArtifactStore
from schemas.errors import JobCancelled, JobStopped, JobSuspended
from schemas.limits import MODEL_CHARS
from schemas.requests import FineTuneRequest, Job
from schemas.results import FineTuneResult
from workers.context import JobContext
from workers.models import LoadedModel
from workers.models.directory import content_digest
from workers.models.sources import TUNED_PREFIX
from workers.outages import borrow, insist
from workers.progress import LogLine
from workers.training import (
    CheckpointUnusable,
    Plan,
    Recipe,
    Samples,
    TrainingRun,
    TrainingState,
    Tuned,
    prepare,
    read_samples,
    restore,
    state_of,
    write,
)
from workers.training.disk import disk_errors

log = logging.getLogger(__name__)

#: Hex digits of the digest that tells a base's tuned models apart.
ID_DIGITS: Final = 8

Answer = TypeVar("Answer")


async def finetune(request: FineTuneRequest, ctx: JobContext) -> FineTuneResult:
    """Tune ``request.model`` on the dataset and publish the outcome.

    The steps: load, read all data (so that a bad line costs no training), go on from where an attempt before
    this one stood, train, validate, publish. A crash in any of them leaves at most an artifact that nothing
    points to; the next attempt gives the same model id, and the same weights on the same device.

    Raises:
        ModelNotFound, ModelRejected: the base can't be used (final).
        ModelUnavailable: no tier of the model cache has it now (retryable).
        ServerUnreachable: the store can't give the base now: the job is put off.
        DatasetUnreachable, DatasetInvalid: the data can't be used; the message names the line (final).
        Unsupported: the method does not fit the model (final).
        TrainingDiverged: the loss became infinite or NaN (final).
        OutOfMemory: the device's memory does not suffice (retryable).
        JobStopped, JobSuspended, LeaseLost: seen at the latest after one step.
    """
    ctx.loading()
    async with borrow(ctx, request.model) as model:
        training, validation = await ctx.run(_read, request, model, ctx)
        tuned = await ctx.models.build(prepare, model, request.method, request.seed)
        plan = Plan.of(request.hyperparameters, len(training.items), request.seed)
        digest = await asyncio.to_thread(content_digest, *model.directories)
        ctx.running()
        run = await ctx.run(TrainingRun, tuned, training.items, plan)
        tuning = _Tuning(request, ctx, run, Recipe(training.sha256, digest, request.method, plan))
        await tuning.resume()
        return await tuning.result(await tuning.train(validation))


def tuned_id(job: Job, base: str, suffix: str) -> str:
    """The tuned model's id: the same in every attempt at the job, and another tenant's is never equal."""
    digest = sha256(f"{job.tenant}/{job.id}".encode()).hexdigest()[:ID_DIGITS]
    # A model that was tuned in whole is named by what it was made from: ids don't grow with every round.
    origin = base.removeprefix(TUNED_PREFIX).rsplit(":", 2)[0] if base.startswith(TUNED_PREFIX) else base
    ending = f":{suffix}:{digest}"
    return f"{TUNED_PREFIX}{origin[: MODEL_CHARS - len(TUNED_PREFIX) - len(ending)]}{ending}"


def _read(request: FineTuneRequest, model: LoadedModel, ctx: JobContext) -> tuple[Samples, Samples | None]:
    longest = request.hyperparameters.max_length
    training = read_samples(ctx.datasets, request.dataset, model, longest, ctx.check)
    ctx.meter.base = model.ref.base
    ctx.meter.adapter = model.ref.adapter
    ctx.meter.dataset_sha256 = training.sha256
    if request.validation is None:
        return training, None
    return training, read_samples(ctx.datasets, request.validation, model, longest, ctx.check)


class _Tuning:
    """The training of one attempt, between the checkpoint that it found and those that it leaves."""

    def __init__(self, request: FineTuneRequest, ctx: JobContext, run: TrainingRun, recipe: Recipe) -> None:
        self._request, self._ctx, self._run, self._recipe = request, ctx, run, recipe

    async def resume(self) -> None:
        """Go on from the job's checkpoint; from the beginning where there is none, or none of this recipe."""
        ctx = self._ctx
        found = await insist(ctx, lambda: ctx.checkpoints.find(TrainingState))
        if found is None:
            return
        restoring = partial(restore, self._run, self._recipe, found.state, found.directory)
        try:
            await insist(ctx, lambda: asyncio.to_thread(restoring))
        except CheckpointUnusable as error:
            log.warning("job %s: its checkpoint can't be used, it starts over: %s", ctx.job.id, error)
            return
        ctx.meter.device_s += found.state.device_s
        ctx.meter.train_tokens = found.state.tokens
        ctx.report(LogLine("info", f"Goes on after step {found.state.step:,}, where an earlier lease has left it."))

    async def train(self, validation: Samples | None) -> float | None:
        """Train to the plan's end, and validate; every stop is answered here.

        A suspended job leaves a checkpoint, a cancelled one what it has where that is wanted. After the
        end of a lease nothing is written.
        """
        ctx, run = self._ctx, self._run
        try:
            while not await self._timed(lambda: run.advance(ctx, ctx.checkpoints.every_s)):
                await self._save()
            if validation is None:
                return None
            samples = validation.items
            return await self._timed(lambda: run.mean_loss(samples, ctx))
        except JobSuspended:
            await self._save()
            raise
        except JobCancelled as stop:
            if stop.keep_partial and run.reached.step:
                ctx.partial = await self.result(None, self._check_lease)
            raise

    async def result(self, validation_loss: float | None, check: Callable[[], None] | None = None) -> FineTuneResult:
        """Publish the weights as they are now; that is waited for, however long the store is away.

        No checkpoint is left if ``check`` ends the wait: saving may have rounded the weights to the model's type.
        """
        ctx, run = self._ctx, self._run
        trained = run.trained()
        artifact = await self._publish(check)
        return FineTuneResult(
            model=tuned_id(ctx.job, run.tuned.base, self._request.suffix),
            base=run.tuned.base,
            method=self._request.method.type,
            artifact_uri=artifact.uri,
            artifact_sha256=artifact.sha256,
            size_bytes=artifact.size_bytes,
            steps=trained.steps,
            examples=run.plan.examples,
            train_loss=trained.train_loss,
            validation_loss=validation_loss,
            train_s=trained.train_s,
        )

    async def _publish(self, check: Callable[[], None] | None) -> Artifact:
        ctx, tuned = self._ctx, self._run.tuned
        directory, saved = await insist(ctx, lambda: asyncio.to_thread(_saved, tuned, ctx.artifacts), check)
        with saved:
            return await insist(ctx, lambda: asyncio.to_thread(ctx.artifacts.publish, directory), check)

    def _check_lease(self) -> None:
        """For what a cancelled job still has to do."""
        with suppress(JobStopped):
            self._ctx.check()

    async def _save(self) -> None:
        run = self._run
        if run.reached.step:
            state = state_of(run, self._recipe, self._ctx.meter.device_s)
            await self._ctx.checkpoints.save(run.reached.step, state, lambda directory: write(run, directory))

    async def _timed(self, function: Callable[[], Answer]) -> Answer:
        """Call the function in the trainer thread, and meter it."""
        meter, run = self._ctx.meter, self._run

        def timed() -> Answer:
            started_s = time.perf_counter()
            try:
                return function()
            finally:
                meter.train_tokens = run.reached.tokens
                meter.device_s += time.perf_counter() - started_s

        return await self._ctx.run(timed)


def _saved(tuned: Tuned, artifacts: ArtifactStore) -> tuple[Path, ExitStack]:
    """The weights in a directory that lasts until the stack is closed.

    Raises:
        OSError: the disk does not take them.
    """
    with ExitStack() as stack:
        directory = stack.enter_context(artifacts.scratch())
        with disk_errors():
            tuned.save(directory)
        return directory, stack.pop_all()
