"""Opens what the jobs of a worker share, from the settings; the only place where its parts are chosen."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final

from runtime.artifacts import open_artifacts
from runtime.cache import Cache, Lifetime, MsgspecCodec
from runtime.cache.exposition import CacheCollector
from runtime.database import Database
from runtime.database.queries import TunedModel, find_tuned_model
from runtime.monitoring import Metrics
from runtime.settings import Settings
from workers.context import Tools
from workers.datasets import Datasets
from workers.engine import Engine
from workers.models import HuggingFaceHub, Models, Sources, choose_device
from workers.models.device import check_device

#: A tuned model's row is written once and never changed. That there is none is never kept: it may come any moment.
KNOWN: Final = Lifetime(ttl_s=600.0)
#: Connections that look for tuned models at once, however many jobs ask: a burst of them must not take all that
#: Postgres has.
LOOKUPS: Final = 4


class _NoSuchModel(Exception):
    """Postgres knows none of this id."""


class DatabaseModels:
    """The tuned models that Postgres knows; those that it was asked for lately are kept in ``cache``."""

    def __init__(self, database: Database, cache: Cache) -> None:
        self._database = database
        self._turns = threading.Semaphore(LOOKUPS)
        self._known = cache.region("tuned-models", MsgspecCodec(TunedModel), KNOWN, shared=False)

    def find(self, tenant: str, model_id: str) -> TunedModel | None:
        """See ``TunedModels``."""
        key = self._known.key(model_id, tenant=tenant)
        try:
            return self._known.get_or_load(key, lambda: self._look(tenant, model_id))
        except _NoSuchModel:
            return None

    def _look(self, tenant: str, model_id: str) -> TunedModel:
        with self._turns, self._database.begin() as connection:
            found = find_tuned_model(connection, tenant, model_id)
        if found is None:
            raise _NoSuchModel
        return found


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
    cache = Cache()
    metrics.add(CacheCollector("worker", cache))
    sources = Sources(settings.models, DatabaseModels(database, cache), artifacts, hub)
    models = Models(sources, device, settings.model_memory_bytes)
    trainer = ThreadPoolExecutor(1, thread_name_prefix="trainer")
    try:
        with Engine(max_rows=settings.generate_slots, max_tokens=settings.engine_tokens) as engine:
            yield Tools(models, engine, Datasets(settings.data), artifacts, trainer)
    finally:
        trainer.shutdown(wait=False, cancel_futures=True)
        models.close()
        cache.close()
        artifacts.close()
