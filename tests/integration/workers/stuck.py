"""``python -m tests.integration.workers.stuck``: a worker with jobs that fetch from a store that never answers."""

import asyncio
import logging
import os
import threading

from runtime.settings import Settings
from schemas.requests import GenerateRequest
from schemas.results import GenerateResult
from tests.integration.workers.rig import no_evaluate, no_finetune
from workers.context import JobContext
from workers.job import Handlers
from workers.serving import serve
from workers.tools import open_tools


async def generate(_: GenerateRequest, ctx: JobContext) -> GenerateResult:
    """Wait for ever, in a thread."""
    ctx.running()
    await asyncio.to_thread(threading.Event().wait)
    raise AssertionError("the store has answered")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    serve(Settings.from_env(os.environ), Handlers(generate, no_finetune, no_evaluate), open_tools)
    # Reached only where nothing is waited for.
    os._exit(3)
