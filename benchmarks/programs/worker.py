"""``python -m benchmarks.programs.worker SECONDS``: a worker whose handlers only sleep, and need no torch.

All else of it is the real one: leases, slots, outcomes, heartbeats. A job's answer is when its handler was called,
in seconds since 1970.
"""

import asyncio
import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, cast

from benchmarks.records import MODELS
from runtime.database import Database
from runtime.monitoring import Metrics
from runtime.settings import Settings
from schemas.requests import EvaluateRequest, FineTuneRequest, GenerateRequest
from schemas.results import Choice, EvaluateResult, FineTuneResult, GenerateResult
from workers.context import JobContext, Tools
from workers.job import Handlers
from workers.serving import serve


class NamedModels:
    """Models of which there are the names alone."""

    device: Final = "cpu"

    def held(self) -> tuple[str, ...]:
        """All that the benchmarks ask for."""
        return MODELS

    async def check_device(self) -> None:
        """There is none that could fail."""


class NoTools:
    """Tools for handlers that use none."""

    models = NamedModels()
    engine = datasets = artifacts = trainer = None


@contextmanager
def no_tools(_settings: Settings, _database: Database, _metrics: Metrics) -> Iterator[Tools]:
    """Open nothing."""
    yield cast(Tools, NoTools())


def sleeping(seconds: float) -> Handlers:
    """Handlers that take so long; only text generation is asked for here."""

    async def generate(_request: GenerateRequest, ctx: JobContext) -> GenerateResult:
        begun = repr(time.time())
        ctx.running()
        await asyncio.sleep(seconds)
        return GenerateResult(choices=(Choice(prompt=0, index=0, text=begun, tokens=0, finish_reason="stop"),))

    async def finetune(_request: FineTuneRequest, _ctx: JobContext) -> FineTuneResult:
        raise NotImplementedError

    async def evaluate(_request: EvaluateRequest, _ctx: JobContext) -> EvaluateResult:
        raise NotImplementedError

    return Handlers(generate, finetune, evaluate)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    serve(Settings.from_env(os.environ), sleeping(float(sys.argv[1])), no_tools)
