"""Fine-tune: one request in, one published model out."""

import asyncio
import time
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from runtime.artifacts import Artifact, ArtifactStore
from schemas.limits import MODEL_CHARS
from schemas.requests import FineTuneRequest, Job
from schemas.results import FineTuneResult
from workers.context import JobContext
from workers.models import LoadedModel
from workers.models.sources import TUNED_PREFIX
from workers.training import Plan, Samples, Trained, TrainingRun, Tuned, prepare, read_samples

#: Hex digits of the digest that tells a base's tuned models apart.
ID_DIGITS: Final = 8


async def finetune(request: FineTuneRequest, ctx: JobContext) -> FineTuneResult:
    """Tune ``request.model`` on the dataset and publish the outcome.

    The steps: load, read all data (so that a bad line costs no training), train, validate, publish. A
    crash in any of them leaves at most an artifact that nothing points to; the next attempt gives the
    same model id.

    Raises:
        ModelNotFound, ModelRejected: the base can't be used (final).
        ModelUnavailable: no tier of the model cache has it now (retryable).
        DatasetUnreachable, DatasetInvalid: the data can't be used; the message names the line (final).
        Unsupported: the method does not fit the model (final).
        TrainingDiverged: the loss became infinite or NaN (final).
        OutOfMemory: the device's memory does not suffice (retryable).
        JobStopped, LeaseLost: seen at the latest after one step.
    """
    ctx.loading()
    async with ctx.models.borrow(ctx.job.tenant, request.model, None, ctx.meter) as model:
        training, validation = await ctx.run(_read, request, model, ctx)
        tuned = await ctx.models.build(prepare, model, request.method, request.seed)
        ctx.running()
        plan = Plan.of(request.hyperparameters, len(training.items), request.seed)
        trained, validation_loss = await ctx.run(_train, tuned, plan, training, validation, ctx)
        artifact = await asyncio.to_thread(_publish, tuned, ctx.artifacts)
    return FineTuneResult(
        model=tuned_id(ctx.job, tuned.base, request.suffix),
        base=tuned.base,
        method=request.method.type,
        artifact_uri=artifact.uri,
        artifact_sha256=artifact.sha256,
        size_bytes=artifact.size_bytes,
        steps=trained.steps,
        examples=len(training.items),
        train_loss=trained.train_loss,
        validation_loss=validation_loss,
        train_s=trained.train_s,
    )


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


def _train(
    tuned: Tuned, plan: Plan, training: Samples, validation: Samples | None, ctx: JobContext
) -> tuple[Trained, float | None]:
    run = TrainingRun(tuned, training.items, plan)
    started_s = time.perf_counter()
    try:
        trained = run.run(ctx)
        return trained, run.mean_loss(validation.items, ctx) if validation else None
    finally:
        ctx.meter.train_tokens = run.reached.tokens
        ctx.meter.device_s += time.perf_counter() - started_s


def _publish(tuned: Tuned, artifacts: ArtifactStore) -> Artifact:
    with TemporaryDirectory(prefix="headrace-tuned-") as directory:
        tuned.save(Path(directory))
        return artifacts.publish(Path(directory))
