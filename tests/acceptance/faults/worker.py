"""``python -m tests.acceptance.faults.worker``: the platform's worker with handlers that need no model.

Its handlers are other ones because torch costs each start seconds of a core.
"""

import logging
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from runtime import interpreter
from runtime.artifacts import open_artifacts
from runtime.database import Database
from runtime.monitoring import Metrics
from runtime.settings import Settings
from schemas.errors import HeadraceError
from schemas.events import Heartbeat
from tests.acceptance.faults.crashes import Crash
from tests.acceptance.faults.executions import Journal
from tests.acceptance.faults.handlers import Work
from tests.acceptance.faults.zoo import faulty, plant, planted
from workers import serving
from workers.context import Tools
from workers.serving import OpenTools, serve
from workers.worker import Worker

log = logging.getLogger("worker")

LAST_RELEASE: Final = "0.1"


class NamedModels:
    """Models that are names alone: one is in memory from its first job on."""

    device: Final = "none"

    def __init__(self) -> None:
        self._held: dict[str, None] = {}

    def held(self) -> tuple[str, ...]:
        """The models in memory."""
        return tuple(self._held)

    async def check_device(self) -> None:
        """There is none that could fail."""

    def load(self, name: str) -> None:
        """Hold a model from now on."""
        self._held[name] = None


def tools_with(models: NamedModels) -> OpenTools:
    """Artifacts, the trainer's thread and the models' names; no handler of ours asks for the rest."""

    @contextmanager
    def open_tools(settings: Settings, _database: Database, metrics: Metrics) -> Iterator[Tools]:
        artifacts = open_artifacts(settings.store, settings.cache_dir, settings.redis, metrics)
        trainer = ThreadPoolExecutor(1, thread_name_prefix="trainer")
        try:
            yield Tools(models, None, None, artifacts, trainer)  # type: ignore[arg-type]
        finally:
            trainer.shutdown(wait=False, cancel_futures=True)
            artifacts.close()

    return open_tools


class OfLastRelease(Worker):
    """A worker that tells what workers of release 0.1 did."""

    def _describe(self) -> Heartbeat:
        return replace(super()._describe(), slots=None, loading=None, ahead=None)


def main() -> int:
    """Run a worker; the exit status is 0 only after a stop that was asked for."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    interpreter.tell_when_asked()
    settings = Settings.from_env(os.environ)
    crash = Crash(Path(os.environ["FAULTS_CRASH"]))
    crash.watch_database()
    bug = Path(os.environ["FAULTS_BUG"])
    plant(bug)
    if os.environ["FAULTS_RELEASE"] == LAST_RELEASE:
        vars(serving)["Worker"] = OfLastRelease
    with Journal(Path(os.environ["FAULTS_EXECUTIONS"]), settings.host) as journal:
        try:
            models = NamedModels()
            handlers = Work(journal, crash, settings.cache_dir, models.load).handlers()
            serve(settings, faulty(planted(bug), handlers, settings), tools_with(models))
        except HeadraceError as error:
            log.error("%s: %s", error.code, error)
            return 1
    return 0


if __name__ == "__main__":
    status = main()
    logging.shutdown()
    os._exit(status)
