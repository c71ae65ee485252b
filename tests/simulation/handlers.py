"""Models of the handlers: they take time in steps, succeed, fail, or kill their process, as the job's plan says."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Protocol, assert_never, cast

import msgspec

from schemas.errors import JobSuspended, Unsupported
from schemas.events import Lease
from schemas.requests import EvaluateRequest, FineTuneRequest, GenerateRequest
from schemas.results import Choice, EvaluateResult, FineTuneResult, GenerateResult, Result
from tests.simulation.artifacts import SimArtifacts
from tests.simulation.loop import PROCESS, Process
from tests.simulation.tables import Key
from tests.simulation.workload import Ending, Plan
from workers.checkpoints import JobCheckpoints
from workers.context import JobContext, Tools
from workers.job import Handlers
from workers.outages import insist

STEPS_PER_CHECKPOINT: Final = 2
#: What the first job of a model waits for it.
LOAD_S: Final = 0.2


class Stage(Protocol):
    """What the handlers tell of themselves."""

    def begin(self, process: Process, ctx: JobContext) -> object:
        """A handler was called."""

    def resumed(self, run: object, position: int) -> None:
        """It begins, after so many steps that others have done."""

    def step(self, run: object) -> None:
        """It goes on."""

    def end(self, run: object) -> None:
        """It returned, or raised."""

    def kill(self, process: Process, reason: str) -> None:
        """It took its process along."""


class _Models:
    """The models of a worker, which has room for all; the first use of one takes a while."""

    device: Final = "model"

    def __init__(self) -> None:
        self._held: dict[str, None] = {}

    def held(self) -> tuple[str, ...]:
        return tuple(self._held)

    async def check_device(self) -> None:
        """There is none that could fail."""

    async def load(self, name: str) -> None:
        """Have the model."""
        if name not in self._held:
            await asyncio.sleep(LOAD_S)
            self._held[name] = None


def tools(artifacts: SimArtifacts) -> Tools:
    """The tools of a worker whose handlers need no others."""
    return cast(Tools, _Tools(artifacts))


class _Tools:
    engine = datasets = trainer = None

    def __init__(self, artifacts: SimArtifacts) -> None:
        self.models = _Models()
        self.artifacts = artifacts


class Done(msgspec.Struct, frozen=True):
    """The steps whose effects a checkpoint has, in their order."""

    steps: tuple[int, ...] = ()


def answer(lease: Lease, attempt: int, steps: Iterable[int]) -> str:
    """What a handler answers under a lease: so each result says whose it is, and what went into it."""
    return f"{lease.tenant}/{lease.job_id}, attempt {attempt}, epoch {lease.epoch}, steps {list(steps)}"


def answered(result: Result | None) -> str:
    """The answer in a result."""
    match result:
        case None:
            return ""
        case GenerateResult():
            return result.choices[0].text
        case FineTuneResult():
            return result.model
        case EvaluateResult():
            return result.outputs_uri or ""
        case unknown:
            assert_never(unknown)


def handlers(plans: Mapping[Key, Plan], stage: Stage) -> Handlers:
    """One for each kind, all alike."""

    async def resumed(ctx: JobContext, plan: Plan) -> list[int]:
        found = await insist(ctx, lambda: ctx.checkpoints.find(Done)) if plan.keeps else None
        return list(found.state.steps) if found else []

    async def keep(ctx: JobContext, plan: Plan, done: Sequence[int]) -> None:
        if plan.keeps:
            await ctx.checkpoints.save(len(done), Done(tuple(done)), lambda _directory: None)

    async def work(ctx: JobContext) -> str:
        run = stage.begin(PROCESS.get(), ctx)
        try:
            await cast(_Models, ctx.models).load(ctx.job.request.model)
            plan = plans[ctx.job.tenant, ctx.job.id]
            done = await resumed(ctx, plan)
            stage.resumed(run, len(done))
            for step in range(len(done), plan.steps):
                await asyncio.sleep(plan.step_s)
                stage.step(run)
                if plan.ending is Ending.KILLS and step == plan.steps // 2:
                    stage.kill(PROCESS.get(), f"poison {ctx.job.id}")
                    await asyncio.sleep(0)
                done.append(step)
                try:
                    ctx.check()
                except JobSuspended:
                    await keep(ctx, plan, done)
                    raise
                if len(done) % STEPS_PER_CHECKPOINT == 0:
                    await keep(ctx, plan, done)
            if plan.ending is Ending.FAILS:
                raise Unsupported("The model of a handler fails, as it was planned.")
            # Handlers know their lease by its checkpoints alone.
            return answer(cast(JobCheckpoints, ctx.checkpoints)._lease, ctx.job.attempt, done)
        finally:
            stage.end(run)

    async def generate(_request: GenerateRequest, ctx: JobContext) -> GenerateResult:
        return GenerateResult(choices=(Choice(0, 0, await work(ctx), 1, "stop"),))

    async def finetune(request: FineTuneRequest, ctx: JobContext) -> FineTuneResult:
        text = await work(ctx)
        return FineTuneResult(
            model=text, base=request.model, method="lora", artifact_uri="file:none", artifact_sha256="0" * 64,
            size_bytes=1, steps=1, examples=1, train_loss=1.0, train_s=1.0,
        )  # fmt: skip

    async def evaluate(request: EvaluateRequest, ctx: JobContext) -> EvaluateResult:
        return EvaluateResult(model=request.model, examples=1, scores=(), outputs_uri=await work(ctx))

    return Handlers(generate, finetune, evaluate)
