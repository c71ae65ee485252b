"""Opens what the jobs of a worker share, from the settings; the only place where its parts are chosen."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final

from runtime.artifacts import open_artifacts
from runtime.database import Database
from runtime.database.queries import TunedModel, find_tuned_model
from runtime.monitoring import Metrics
from runtime.settings import Settings
from workers.context import Tools
from workers.datasets import Datasets
from workers.engine import Engine
from workers.models import HuggingFaceHub, Models, Sources, choose_device
from workers.models.device import check_device

#: Connections that look for tuned models at once, however many jobs ask: a burst of them must not take all that
#: Postgres has.
LOOKUPS: Final = 4


class DatabaseModels:
    """The tuned models that Postgres knows."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._turns = threading.Semaphore(LOOKUPS)

    def find(self, tenant: str, model_id: str) -> TunedModel | None:
        """See ``TunedModels``."""
        with self._turns, self._database.begin() as connection:
            return find_tuned_model(connection, tenant, model_id)


@contextmanager
def open_tools(settings: Settings, database: Database, metrics: Metrics) -> Iterator[Tools]:
    """Models, engine, datasets, artifacts and the trainer thread; nothing is loaded before it is needed.

    Raises:
        InvalidSetting: the device that is asked for is not there.
        WorkerBroken: it computes nothing.
    """
    device = choose_device(settings.device)
    check_device(device)
    artifacts = open_artifacts(settings.store, settings.cache_dir, settings.redis, metrics)
    hub = HuggingFaceHub(settings.cache_dir / "hub") if settings.hub else None
    sources = Sources(settings.models, DatabaseModels(database), artifacts, hub)
    models = Models(sources, device, settings.model_memory_bytes)
    trainer = ThreadPoolExecutor(1, thread_name_prefix="trainer")
    try:
        with Engine(max_rows=settings.generate_slots, max_tokens=settings.engine_tokens) as engine:
            yield Tools(models, engine, Datasets(settings.data), artifacts, trainer)
    finally:
        trainer.shutdown(wait=False, cancel_futures=True)
        models.close()
        artifacts.close()
