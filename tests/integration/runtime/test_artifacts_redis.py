"""The Redis tier of artifacts, against a real Redis."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from redis import Redis

from runtime.artifacts import Artifact, ArtifactStore
from runtime.artifacts.redis_tier import CHUNK_BYTES, RedisTier
from runtime.artifacts.remote import RemoteStore
from runtime.monitoring import Metrics
from schemas.errors import ModelUnavailable

WEIGHTS = os.urandom(2 * CHUNK_BYTES + 1_234)


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    directory = tmp_path / "adapter"
    directory.mkdir()
    (directory / "adapter_config.json").write_text("{}")
    (directory / "adapter_model.safetensors").write_bytes(WEIGHTS)
    (directory / "empty.txt").touch()
    return directory


@pytest.fixture
def client(redis_url: str) -> Iterator[Redis]:
    with Redis.from_url(redis_url) as client:
        yield client


OpenWorker = Callable[[str], ArtifactStore]


@pytest.fixture
def worker(tmp_path: Path, redis_url: str) -> Iterator[OpenWorker]:
    """Opens the artifacts of a worker with a disk of its own, and the store and Redis of all."""
    with ExitStack() as stack:

        def open_worker(name: str) -> ArtifactStore:
            tier = RedisTier.connect(redis_url)
            store = ArtifactStore(RemoteStore(f"file://{tmp_path}/store"), tmp_path / name, tier, Metrics("test"))
            stack.callback(store.close)
            return store

        yield open_worker


def test_a_discarded_artifact_leaves_nothing_in_redis(adapter: Path, worker: OpenWorker, client: "Redis") -> None:
    store = worker("a")
    artifact = store.publish(adapter)
    assert client.dbsize()

    store.discard(artifact.sha256, artifact.uri)

    assert client.dbsize() == 0


def test_a_second_worker_gets_a_fresh_adapter_from_redis_alone(
    tmp_path: Path, adapter: Path, worker: OpenWorker
) -> None:
    artifact = worker("a").publish(adapter)
    shutil.rmtree(tmp_path / "a")
    shutil.rmtree(tmp_path / "store")

    path = worker("b").fetch(artifact.sha256, artifact.uri)

    assert (path / "adapter_model.safetensors").read_bytes() == WEIGHTS
    assert sorted(file.name for file in path.iterdir()) == [
        "adapter_config.json", "adapter_model.safetensors", "empty.txt", "manifest.json",
    ]  # fmt: skip


def test_no_value_in_redis_is_larger_than_a_mebibyte_and_all_of_them_expire(
    adapter: Path, worker: OpenWorker, client: Redis
) -> None:
    worker("a").publish(adapter)

    sizes = [client.strlen(key) for key in client.scan_iter("headrace:artifact:*")]

    assert len(sizes) == 1 + 1 + 3
    assert max(sizes) == CHUNK_BYTES
    assert all(client.ttl(key) > 0 for key in client.scan_iter("*"))


@pytest.mark.parametrize("harm", ["changed", "evicted", "manifest"])
def test_a_chunk_that_is_damaged_or_gone_means_the_next_tier(
    adapter: Path, worker: OpenWorker, client: Redis, harm: str
) -> None:
    artifact = worker("a").publish(adapter)
    _harm(client, artifact, harm)

    path = worker("b").fetch(artifact.sha256, artifact.uri)

    assert (path / "adapter_model.safetensors").read_bytes() == WEIGHTS


def test_a_damaged_chunk_and_no_other_tier_is_an_error_not_a_model(
    tmp_path: Path, adapter: Path, worker: OpenWorker, client: Redis
) -> None:
    artifact = worker("a").publish(adapter)
    _harm(client, artifact, "changed")
    shutil.rmtree(tmp_path / "store")

    with pytest.raises(ModelUnavailable):
        worker("b").fetch(artifact.sha256, artifact.uri)


def test_what_came_from_the_store_is_put_into_redis_for_the_others(
    tmp_path: Path, adapter: Path, worker: OpenWorker, client: Redis
) -> None:
    artifact = worker("a").publish(adapter)
    client.flushdb()
    worker("b").fetch(artifact.sha256, artifact.uri)
    shutil.rmtree(tmp_path / "store")

    assert worker("c").fetch(artifact.sha256, artifact.uri).is_dir()


def test_an_artifact_beyond_the_limit_stays_out_of_redis(tmp_path: Path, adapter: Path, client: Redis) -> None:
    tier = RedisTier(client, limit_bytes=CHUNK_BYTES)
    store = ArtifactStore(RemoteStore(f"file://{tmp_path}/store"), tmp_path / "a", tier, Metrics("test"))

    store.publish(adapter)

    assert client.dbsize() == 0


def _harm(client: Redis, artifact: Artifact, harm: str) -> None:
    chunk = f"headrace:artifact:{artifact.sha256}:adapter_model.safetensors:1"
    match harm:
        case "changed":
            client.setrange(chunk, 100, b"!!!!")
        case "evicted":
            client.delete(chunk)
        case _:
            client.set(f"headrace:artifact:{artifact.sha256}", b'{"files":[]}')
