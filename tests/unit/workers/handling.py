"""A job's context with everything real but Kafka, Postgres and Redis: models and store on a temporary disk."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import torch

from runtime.database.queries import TunedModel
from schemas.codec import new_traceparent
from schemas.events import ProgressEvent, State
from schemas.requests import Job, Request
from tests.unit.workers.saving import FailingArtifacts, KeptCheckpoints
from workers.context import JobContext, Tools
from workers.datasets import Datasets
from workers.engine import Engine
from workers.models import Models, Sources

Answer = TypeVar("Answer")
AnyRequest = TypeVar("AnyRequest", bound=Request)


class NoTunedModels:
    """A database without tuned models."""

    def find(self, tenant: str, model_id: str) -> TunedModel | None:  # noqa: ARG002  nobody has any
        return None


@dataclass
class Announced:
    """What a job told its watchers. A test may listen."""

    events: list[ProgressEvent] = field(default_factory=list)
    states: list[State] = field(default_factory=list)
    listen: Callable[[ProgressEvent], None] = lambda _: None

    def progress(self, _: Job, event: ProgressEvent) -> None:
        self.events.append(event)
        self.listen(event)

    def status(self, _: Job, state: State) -> None:
        self.states.append(state)


class Bench:
    """Runs handlers on requests, with the models and datasets below one directory."""

    def __init__(self, directory: Path, engine: Engine, trainer: ThreadPoolExecutor) -> None:
        self.models_dir, self.data_dir, self.store_dir = (directory / name for name in ("models", "data", "store"))
        for made in (self.models_dir, self.data_dir, self.store_dir):
            made.mkdir()
        self.artifacts = FailingArtifacts(directory)
        self._engine, self._trainer = engine, trainer
        self.announced = Announced()
        self.checkpoints = KeptCheckpoints(directory / "checkpoints")

    def run(
        self,
        handler: Callable[[AnyRequest, JobContext], Awaitable[Answer]],
        request: AnyRequest,
        prepare: Callable[[JobContext], None] = lambda _: None,
    ) -> tuple[Answer, JobContext]:
        """The handler's answer, and the context that it has used."""

        async def main() -> tuple[Answer, JobContext]:
            sources = Sources([self.models_dir], NoTunedModels(), self.artifacts)
            models = Models(sources, torch.device("cpu"), memory_bytes=2**30)
            datasets = Datasets([self.data_dir])
            tools = Tools(models, self._engine, datasets, self.artifacts, self._trainer)
            now = datetime.now(UTC)
            job = Job(
                id="job", tenant="default", request=request, submitted_at=now, queued_at=now,
                traceparent=new_traceparent(),
            )  # fmt: skip
            ctx = JobContext(job, tools, self.announced, self.checkpoints)
            prepare(ctx)
            try:
                return await handler(request, ctx), ctx
            finally:
                models.close()

        return asyncio.run(main())


@contextmanager
def open_bench(directory: Path) -> Iterator[Bench]:
    """A bench whose engine and trainer run until the block ends."""
    with ThreadPoolExecutor(1) as trainer, Engine(max_rows=16) as engine:
        yield Bench(directory, engine, trainer)
