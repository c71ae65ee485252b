"""Many jobs ask for models at once: each is loaded once while it is in memory, and memory keeps its bound."""

import asyncio
from pathlib import Path

import pytest
import torch

from runtime.artifacts import ArtifactStore
from runtime.artifacts.remote import RemoteStore
from runtime.database.queries import TunedModel
from runtime.monitoring import Metrics
from tests.tiny_models import save_tiny_model
from workers.context import Meter
from workers.models import Models, Sources

MODELS = ("a", "b", "c", "d")
BORROWERS = 64
PLENTY_BYTES = 10**9


class NoTunedModels:
    """A database that knows none."""

    def find(self, _tenant: str, _model_id: str) -> TunedModel | None:
        """None."""
        return None


@pytest.fixture
def sources(tmp_path: Path) -> Sources:
    for name in MODELS:
        save_tiny_model(tmp_path / "models" / name)
    artifacts = ArtifactStore(RemoteStore(f"file://{tmp_path}/store"), tmp_path / "cache", None, Metrics("test"))
    return Sources([tmp_path / "models"], NoTunedModels(), artifacts)


def test_sixty_four_borrowers_of_four_cold_models_get_four(sources: Sources) -> None:
    async def run(models: Models) -> set[int]:
        all_here = asyncio.Barrier(BORROWERS)

        async def borrow(number: int) -> int:
            async with models.borrow("t", MODELS[number % len(MODELS)], None, Meter()) as model:
                await all_here.wait()
                return id(model)

        return set(await asyncio.gather(*map(borrow, range(BORROWERS))))

    models = Models(sources, torch.device("cpu"), PLENTY_BYTES)
    try:
        assert len(asyncio.run(run(models))) == len(MODELS)
        assert set(models.held()) == set(MODELS)
    finally:
        models.close()


def test_jobs_that_take_turns_on_a_small_memory_all_get_their_model(sources: Sources) -> None:
    async def run(models: Models) -> list[str]:
        async def borrow(number: int) -> str:
            name = MODELS[number % len(MODELS)]
            async with models.borrow("t", name, None, Meter()) as model:
                assert await models.tokenize(model.encode, "some text")
                return model.ref.id

        return await asyncio.gather(*map(borrow, range(BORROWERS)))

    models = Models(sources, torch.device("cpu"), memory_bytes=1)
    try:
        assert asyncio.run(run(models)) == [MODELS[number % len(MODELS)] for number in range(BORROWERS)]
        # What nobody borrows has to go where there is room for none.
        assert len(models.held()) <= 1
    finally:
        models.close()
