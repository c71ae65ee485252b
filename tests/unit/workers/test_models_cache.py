"""From ids to lent models: where they are looked for, who may see them, and how often they are loaded."""

import asyncio
import http.server
import json
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TypeVar

import pytest
import torch

from runtime.artifacts import ArtifactStore
from runtime.artifacts.remote import RemoteStore
from runtime.database.queries import TunedModel
from runtime.monitoring import Metrics
from schemas import limits
from schemas.errors import AdapterMismatch, ModelNotFound, ModelRejected, ModelUnavailable, ServerUnreachable
from schemas.requests import Method
from tests.broken_disks import no_more_files
from tests.tiny_models import save_tiny_model
from workers.context import Meter
from workers.models import HuggingFaceHub, LoadedModel, Models, Sources
from workers.models.loading import load_base
from workers.training import prepare

Answer = TypeVar("Answer")

CPU = torch.device("cpu")
PLENTY_BYTES = 10**9
ADAPTER = "ft:base:dates:00000001"
WHOLE = "ft:base:whole:00000002"


class Tenants:
    """The tuned models of each tenant, as the database has them."""

    def __init__(self) -> None:
        self.models: dict[tuple[str, str], TunedModel] = {}

    def find(self, tenant: str, model_id: str) -> TunedModel | None:
        return self.models.get((tenant, model_id))


class World:
    """A model root with two bases, and a tenant ``anna`` with a tuned model of each method."""

    def __init__(self, directory: Path) -> None:
        self.root = directory / "models"
        for name in ("base", "owner/other"):
            save_tiny_model(self.root / name)
        self.tenants = Tenants()
        self.artifacts = ArtifactStore(
            RemoteStore(f"file://{directory}/store"), directory / "cache", None, Metrics("test")
        )
        base = load_base("base", "key", self.root / "base", CPU)
        for model_id, method in ((ADAPTER, Method(rank=2)), (WHOLE, Method("full"))):
            path = directory / method.type
            path.mkdir()
            prepare(base, method, 0).save(path)
            made = self.artifacts.publish(path)
            self.tenants.models["anna", model_id] = TunedModel(
                model_id, "base", method.type, made.uri, made.sha256, made.size_bytes
            )

    def models(self, hub: HuggingFaceHub | None = None, memory_bytes: int = PLENTY_BYTES) -> Models:
        return Models(Sources([self.root], self.tenants, self.artifacts, hub), CPU, memory_bytes)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_concurrent_borrowers_of_a_cold_model_get_one_and_the_same(world: World) -> None:
    async def run(models: Models) -> list[LoadedModel]:
        async with AsyncExitStack() as stack:
            lending = [stack.enter_async_context(models.borrow("t", "base", None, Meter())) for _ in range(8)]
            return list(await asyncio.gather(*lending))

    assert len({id(model) for model in _run(world.models(), run)}) == 1


def test_lookups_that_get_no_answer_hold_up_no_job_whose_model_is_here(world: World) -> None:
    answer, asked = threading.Event(), threading.Semaphore(0)

    class Silent(Tenants):
        def find(self, tenant: str, model_id: str) -> TunedModel | None:
            asked.release()
            answer.wait()
            return super().find(tenant, model_id)

    world.tenants = Silent()

    async def borrow(models: Models, model_id: str) -> list[int]:
        async with models.borrow("t", model_id, None, Meter()) as model:
            return await models.tokenize(model.encode, "some text")

    async def run(models: Models) -> None:
        # More than asyncio has threads of its own.
        slow = [asyncio.create_task(borrow(models, f"ft:slow:{number}")) for number in range(50)]
        try:
            async with asyncio.timeout(60):
                while not asked.acquire(blocking=False):  # noqa: ASYNC110  threads tell nobody
                    await asyncio.sleep(0)
                assert await borrow(models, "base")
        finally:
            answer.set()
        outcomes = await asyncio.gather(*slow, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {ModelNotFound}

    _run(world.models(), run)


def test_a_base_is_found_by_name_and_by_owner_and_name(world: World) -> None:
    assert _borrow(world.models(), "base").ref.id == "base"
    assert _borrow(world.models(), "owner/other").ref.id == "owner/other"


def test_the_wait_for_a_model_is_noted(world: World) -> None:
    meter = Meter()
    _borrow(world.models(), "base", meter=meter)

    assert meter.load_s > 0


def test_what_is_in_memory_is_named_for_the_heartbeat(world: World) -> None:
    models = world.models()
    _borrow(models, ADAPTER, tenant="anna")

    assert models.held() == ("base", ADAPTER)


def test_a_tuned_adapter_shares_the_memory_of_its_base(world: World) -> None:
    async def run(models: Models) -> None:
        async with (
            models.borrow("anna", "base", None, Meter()) as base,
            models.borrow("anna", ADAPTER, None, Meter()) as view,
            models.borrow("anna", "base", ADAPTER, Meter()) as same,
        ):
            assert view is same
            assert view.base_module is base.module
            assert (view.ref.base, view.ref.adapter) == ("base", ADAPTER)

    _run(world.models(), run)


def test_a_model_that_was_tuned_in_whole_stands_on_its_own(world: World) -> None:
    model = _borrow(world.models(), WHOLE, tenant="anna")

    assert (model.ref.base, model.ref.adapter) == (WHOLE, None)


def test_a_model_that_was_replaced_on_disk_is_loaded_anew(world: World) -> None:
    models = world.models()
    before = _borrow(models, "base", close=False)
    save_tiny_model(world.root / "base", "gpt2")

    assert _borrow(models, "base").key != before.key


def test_memory_keeps_to_its_budget(world: World) -> None:
    models = world.models(memory_bytes=200_000)
    _borrow(models, "base", close=False)
    _borrow(models, "owner/other")

    assert models.held() == ("owner/other",)


@pytest.mark.parametrize("model", ["nothing", "owner/nothing", "ft:base:dates:99999999", "base/config.json"])
def test_an_unknown_model_is_not_found_and_the_message_says_where(world: World, model: str) -> None:
    with pytest.raises(ModelNotFound, match=r"not found in .*(models, nor on the hub|of tenant 'anna')"):
        _borrow(world.models(), model, tenant="anna")


def test_an_id_that_is_too_long_for_a_file_is_not_found(world: World) -> None:
    with pytest.raises(ModelNotFound, match=r"not found in .*models, nor on the hub"):
        _borrow(world.models(), "x" * limits.MODEL_CHARS)


def test_a_worker_that_can_open_no_more_files_does_not_deny_a_model(world: World) -> None:
    sources = Sources([world.root], world.tenants, world.artifacts)

    with no_more_files(), pytest.raises(ServerUnreachable, match="Too many open files"):
        sources.find("t", "base")


def test_a_model_with_a_link_that_leads_nowhere_is_unavailable_by_its_path(world: World) -> None:
    (world.root / "base" / "extra.safetensors").symlink_to(world.root / "never")

    with pytest.raises(ModelUnavailable, match=r"Model base can't be read: .*extra\.safetensors"):
        _borrow(world.models(), "base")


def test_a_tuned_model_is_its_tenant_s_alone(world: World) -> None:
    models = world.models()
    _borrow(models, ADAPTER, tenant="anna", close=False)

    with pytest.raises(ModelNotFound, match="tenant 'ben'"):
        _borrow(models, ADAPTER, tenant="ben")


@pytest.mark.parametrize("adapter", [ADAPTER, WHOLE])
def test_an_adapter_of_another_base_is_refused(world: World, adapter: str) -> None:
    with pytest.raises(AdapterMismatch, match="not on 'owner/other'"):
        _borrow(world.models(), "owner/other", adapter, tenant="anna")


def test_a_base_is_no_adapter(world: World) -> None:
    with pytest.raises(ModelNotFound, match="tuned models of tenant"):
        _borrow(world.models(), "base", "owner/other")


@pytest.mark.parametrize("target", ["directory", "file"])
def test_a_link_out_of_the_model_root_is_refused(world: World, tmp_path: Path, target: str) -> None:
    outside = save_tiny_model(tmp_path / "outside")
    if target == "directory":
        (world.root / "linked").symlink_to(outside)
    else:
        save_tiny_model(world.root / "linked")
        (world.root / "linked" / "model.safetensors").unlink()
        (world.root / "linked" / "model.safetensors").symlink_to(outside / "model.safetensors")

    with pytest.raises(ModelRejected, match="outside of its model root"):
        _borrow(world.models(), "linked")


def test_a_tuned_model_whose_artifact_is_gone_is_unavailable_and_tried_again(world: World) -> None:
    found = world.tenants.models["anna", ADAPTER]
    moved = TunedModel("ft:base:gone:3", "base", "lora", "file:///nowhere", "0" * 64, found.size_bytes)
    world.tenants.models["anna", "ft:base:gone:3"] = moved

    with pytest.raises(ModelUnavailable, match="0000"):
        _borrow(world.models(), "ft:base:gone:3", tenant="anna")


class HubHandler(http.server.BaseHTTPRequestHandler):
    """The three calls of the hub's API that a download makes, over one directory."""

    files: Path
    revision = "a" * 40

    def do_GET(self) -> None:
        if self.path.startswith("/api/models/owner/tiny/revision/"):
            names = [{"rfilename": path.name} for path in self.files.iterdir()]
            body = json.dumps({"id": "owner/tiny", "sha": self.revision, "siblings": names}).encode()
            return self._answer(200, body)
        path = self.files / self.path.rpartition("/")[2]
        if self.path.startswith("/owner/tiny/resolve/") and path.is_file():
            return self._answer(200, path.read_bytes(), path.name)
        return self._answer(404, b"", error="RepoNotFound")

    do_HEAD = do_GET  # noqa: N815  the server's naming

    def log_message(self, format: str, *args: object) -> None:
        """Keep the test's output clean."""

    def _answer(self, status: int, body: bytes, etag: str = "", error: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in (("ETag", etag), ("X-Error-Code", error), ("X-Repo-Commit", self.revision)):
            if value:
                self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HuggingFaceHub]:
    files = save_tiny_model(tmp_path / "hub")
    (files / "pytorch_model.bin").write_bytes(b"a pickle")
    handler = type("Handler", (HubHandler,), {"files": files})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield HuggingFaceHub(tmp_path / "hub-cache", f"http://127.0.0.1:{server.server_port}")
        server.shutdown()
        thread.join()


def test_a_model_of_the_hub_is_downloaded_without_its_pickles(
    world: World, hub: HuggingFaceHub, tmp_path: Path
) -> None:
    assert _borrow(world.models(hub), "owner/tiny").ref.id == "owner/tiny"
    assert not list((tmp_path / "hub-cache").rglob("*.bin"))


def test_a_model_that_the_hub_does_not_have_is_not_found(world: World, hub: HuggingFaceHub) -> None:
    with pytest.raises(ModelNotFound, match="nor on the hub"):
        _borrow(world.models(hub), "owner/nothing")


def test_a_hub_that_does_not_answer_is_no_proof_that_there_is_no_such_model(world: World, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    away = HuggingFaceHub(tmp_path / "hub-cache", f"http://127.0.0.1:{port}")

    with pytest.raises(ModelUnavailable, match="owner/tiny"):
        _borrow(world.models(away), "owner/tiny")


def _run(models: Models, use: Callable[[Models], Awaitable[Answer]], *, close: bool = True) -> Answer:
    async def run() -> Answer:
        return await use(models)

    try:
        return asyncio.run(run())
    finally:
        if close:
            models.close()


def _borrow(
    models: Models,
    model: str,
    adapter: str | None = None,
    *,
    tenant: str = "t",
    meter: Meter | None = None,
    close: bool = True,
) -> LoadedModel:
    async def use(models: Models) -> LoadedModel:
        async with models.borrow(tenant, model, adapter, meter or Meter()) as lent:
            return lent

    return _run(models, use, close=close)
