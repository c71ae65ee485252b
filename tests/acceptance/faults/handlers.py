"""What the workers under test do: no model, but time, steps, and results that name their execution."""

import asyncio
import os
import secrets
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Final, cast

from runtime.artifacts import Artifact
from runtime.database.admissions import needed_model
from schemas.requests import EvaluateRequest, FineTuneRequest, GenerateRequest
from schemas.results import Choice, EvaluateResult, FineTuneResult, GenerateResult, Interval, Score
from tests.acceptance.faults.bodies import FIRST, POISON
from tests.acceptance.faults.crashes import Crash, Point
from tests.acceptance.faults.executions import Journal
from workers.checkpoints import JobCheckpoints
from workers.context import JobContext
from workers.job import Handlers
from workers.progress import Count

STEP_S: Final = 0.1
WEIGHTS_BYTES: Final = 65_536


class Work:
    """The handlers of one worker; a prompt is ``variant:milliseconds``."""

    def __init__(self, journal: Journal, crash: Crash, cache_dir: Path, load: Callable[[str], None]) -> None:
        self._journal = journal
        self._crash = crash
        self._cache_dir = cache_dir
        self._load = load

    def handlers(self) -> Handlers:
        """One function a kind."""
        return Handlers(self.generate, self.finetune, self.evaluate)

    async def generate(self, request: GenerateRequest, ctx: JobContext) -> GenerateResult:
        """Wait as long as the prompt says, and answer with its variant and this execution's token."""
        token = self._begin(ctx)
        variant, milliseconds = (request.prompt or "").split(":")
        if variant == POISON:
            os.kill(os.getpid(), signal.SIGKILL)
        await self._steps(int(milliseconds) / 1_000, ctx)
        self._journal.ended(token)
        return GenerateResult(choices=(Choice(0, 0, f"{variant}:{token}", 1, "stop"),))

    async def finetune(self, request: FineTuneRequest, ctx: JobContext) -> FineTuneResult:
        """Take the steps that were asked for, publish bytes, and read them back by way of Redis."""
        token = self._begin(ctx)
        steps = request.hyperparameters.max_steps or 1
        await self._steps(steps * STEP_S, ctx)
        artifact = await asyncio.to_thread(self._publish, token, ctx)
        self._journal.ended(token)
        return FineTuneResult(
            model=f"{FIRST}:{token}",
            base=request.model,
            method="lora",
            artifact_uri=artifact.uri,
            artifact_sha256=artifact.sha256,
            size_bytes=artifact.size_bytes,
            steps=steps,
            examples=steps,
            train_loss=0.0,
            train_s=steps * STEP_S,
        )

    async def evaluate(self, request: EvaluateRequest, ctx: JobContext) -> EvaluateResult:
        """Score at once."""
        token = self._begin(ctx)
        await self._steps(STEP_S, ctx)
        self._journal.ended(token)
        score = Score(metric=request.metrics[0], model=Interval(1.0, 1.0, 1.0))
        return EvaluateResult(model=request.model, examples=1, scores=(score,), outputs_uri=f"{FIRST}:{token}")

    def _begin(self, ctx: JobContext) -> str:
        token = secrets.token_hex(8)
        self._load(needed_model(ctx.job.request))
        # Handlers know their lease by its checkpoints alone.
        lease = cast(JobCheckpoints, ctx.checkpoints)._lease
        self._journal.begun(token, lease, ctx.job.attempt)
        self._crash.reached(Point.CLAIM)
        ctx.running()
        return token

    async def _steps(self, for_s: float, ctx: JobContext) -> None:
        steps = max(1, round(for_s / STEP_S))
        for step in range(steps):
            ctx.check()
            await asyncio.sleep(for_s / steps)
            ctx.report(Count(step + 1, steps, "steps"))

    def _publish(self, token: str, ctx: JobContext) -> Artifact:
        directory = self._cache_dir / "made" / token
        directory.mkdir(parents=True)
        weights = directory / "model.safetensors"
        weights.write_bytes(os.urandom(WEIGHTS_BYTES))
        artifact = ctx.artifacts.publish(directory)
        shutil.rmtree(self._cache_dir / "artifacts", ignore_errors=True)
        fetched = ctx.artifacts.fetch(artifact.sha256, artifact.uri)
        if (fetched / weights.name).read_bytes() != weights.read_bytes():
            raise AssertionError(f"artifact {artifact.sha256} has other bytes than were published")
        shutil.rmtree(directory)
        return artifact
