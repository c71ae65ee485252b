"""The model cache as jobs see it: borrow a model by its id."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final, ParamSpec, TypeVar, TypeVarTuple

import torch
from transformers.utils import logging

from workers.context import Meter
from workers.models.device import check_device
from workers.models.loaded import LoadedModel
from workers.models.loading import load_base, load_view
from workers.models.memory import MemoryTier
from workers.models.sources import Source, Sources, Weights

Arguments = ParamSpec("Arguments")
Given = TypeVarTuple("Given")
Answer = TypeVar("Answer")
Built = TypeVar("Built")

#: Threads that look for models and fetch them, made as they are needed: more than jobs at once, so that however many
#: wait for a store that does not answer, none waits for them.
FETCHERS: Final = 256
#: Threads that tokenize, which is work for the processor.
TOKENIZERS: Final = 2


class Models:
    """Models in the memory of one device, loaded when they are first asked for.

    Lives in one event loop, which it never blocks: files are fetched in threads, and modules are
    built by one thread, one after the other. All threads are its own: a slow store must not hold up
    who else uses asyncio's few, nor they the jobs whose models are here.
    """

    def __init__(self, sources: Sources, device: torch.device, memory_bytes: int) -> None:
        self.device = device
        self._sources = sources
        self._memory: MemoryTier[LoadedModel] = MemoryTier(memory_bytes)
        self._builder = ThreadPoolExecutor(1, thread_name_prefix="model-builder")
        self._fetchers = ThreadPoolExecutor(FETCHERS, thread_name_prefix="model-fetcher")
        self._tokenizers = ThreadPoolExecutor(TOKENIZERS, thread_name_prefix="tokenizer")
        logging.disable_progress_bar()  # type: ignore[no-untyped-call]

    @asynccontextmanager
    async def borrow(self, tenant: str, model: str, adapter: str | None, meter: Meter) -> AsyncIterator[LoadedModel]:
        """Lend a model to a job; it stays in memory at least until the block ends.

        Raises:
            ModelNotFound: nothing that this tenant may see has the id (final).
            ModelRejected: its files are damaged or may not be loaded (final).
            AdapterMismatch: the adapter was made for another base (final).
            ModelUnavailable: no tier could give its files now (retryable).
            ServerUnreachable: the disk with its files fails, or is full (retryable).
            OutOfMemory: the device has no room for it (retryable).
            ServerUnreachable: Postgres, which knows the tuned models, is away (retryable).
        """
        started_s = time.perf_counter()
        async with AsyncExitStack() as stack:
            source = await self._fetch(self._sources.find, tenant, model, adapter)
            loaded = await self._enter(stack, source)
            meter.load_s += time.perf_counter() - started_s
            yield loaded

    async def build(
        self, function: Callable[Arguments, Built], /, *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> Built:
        """Run something that builds modules in the one thread that may."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._builder, lambda: function(*args, **kwargs))

    def held(self) -> tuple[str, ...]:
        """The ids of the models in memory, for the heartbeat."""
        return tuple(model.ref.id for model in self._memory.loaded())

    async def tokenize(
        self, function: Callable[Arguments, Answer], /, *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> Answer:
        """Run something that makes tokens of texts in a thread, behind nothing but others' texts."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._tokenizers, lambda: function(*args, **kwargs))

    async def check_device(self) -> None:
        """Try whether the device still computes.

        Raises:
            WorkerBroken: it does not.
        """
        await self._fetch(check_device, self.device)

    def close(self) -> None:
        """Begin no more. What runs is not waited for, and what is lent stays usable."""
        for threads in (self._builder, self._fetchers, self._tokenizers):
            threads.shutdown(wait=False, cancel_futures=True)

    async def _fetch(self, function: Callable[[*Given], Answer], /, *args: *Given) -> Answer:
        return await asyncio.get_running_loop().run_in_executor(self._fetchers, function, *args)

    async def _enter(self, stack: AsyncExitStack, source: Source) -> LoadedModel:
        weights = source.base

        async def base() -> LoadedModel:
            directory = await self._fetch(weights.fetch)
            return await self.build(load_base, source.base_id, weights.key, directory, self.device)

        lent = await stack.enter_async_context(self._memory.borrow(weights.key, weights.size_bytes, base))
        if source.adapter is None or source.adapter_id is None:
            return lent
        return await self._enter_view(stack, lent, source.adapter_id, source.adapter)

    async def _enter_view(
        self, stack: AsyncExitStack, base: LoadedModel, adapter_id: str, weights: Weights
    ) -> LoadedModel:
        async def view() -> LoadedModel:
            directory = await self._fetch(weights.fetch)
            return await self.build(load_view, base, adapter_id, weights.key, directory)

        key = f"{base.key}+{weights.key}"
        lending = self._memory.borrow(key, weights.size_bytes, view, parent=base.key)
        return await stack.enter_async_context(lending)
