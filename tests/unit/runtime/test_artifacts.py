"""The tiers of an artifact that need no server: disk, a store in a directory, and a Redis that is not there."""

import errno
import os
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import NoReturn

import pytest

from runtime.artifacts import Artifact, ArtifactStore
from runtime.artifacts.manifest import MANIFEST_NAME, ArtifactFile, Manifest
from runtime.artifacts.redis_tier import ANSWER_S, RedisTier
from runtime.artifacts.remote import RemoteStore
from runtime.monitoring import Metrics
from schemas.errors import ModelUnavailable, ServerUnreachable


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    directory = tmp_path / "adapter"
    directory.mkdir()
    (directory / "adapter_config.json").write_text('{"r": 4}')
    (directory / "adapter_model.safetensors").write_bytes(bytes(range(256)) * 16)
    return directory


class Worker:
    """A worker's store with a disk of its own."""

    def __init__(self, tmp_path: Path, name: str, redis: RedisTier | None = None) -> None:
        self.metrics = Metrics("test")
        self.store = ArtifactStore(RemoteStore(f"file://{tmp_path}/store"), tmp_path / name, redis, self.metrics)

    def reads(self, tier: str) -> float:
        samples = (sample for family in self.metrics.event().families for sample in family.samples)
        wanted = ("headrace_artifacts_reads_total", {"tier": tier})
        return sum(sample.value for sample in samples if (sample.name, sample.labels) == wanted)


def test_the_same_files_get_the_same_name_and_place_however_often_they_are_published(
    tmp_path: Path, adapter: Path
) -> None:
    first = Worker(tmp_path, "a").store.publish(adapter)
    (adapter / "adapter_config.json").touch()
    again = Worker(tmp_path, "b").store.publish(adapter)

    assert first == again
    assert first.uri == f"file://{tmp_path}/store/{first.sha256}"
    assert first.size_bytes == 8 + 4096


def test_another_worker_gets_the_files_from_the_store(tmp_path: Path, adapter: Path) -> None:
    artifact = Worker(tmp_path, "a").store.publish(adapter)
    other = Worker(tmp_path, "b")

    path = other.store.fetch(artifact.sha256, artifact.uri)

    for file in adapter.iterdir():
        assert (path / file.name).read_bytes() == file.read_bytes()
    assert other.store.fetch(artifact.sha256, "file:///nowhere") == path
    assert (other.reads("store"), other.reads("disk")) == (1, 1)


def test_a_discarded_artifact_is_gone_from_the_store_and_this_disk_and_may_be_published_again(
    tmp_path: Path, adapter: Path
) -> None:
    worker = Worker(tmp_path, "a")
    artifact = worker.store.publish(adapter)

    worker.store.discard(artifact.sha256, artifact.uri)
    worker.store.discard(artifact.sha256, artifact.uri)  # a repeat changes nothing

    assert list((tmp_path / "store").iterdir()) == []
    with pytest.raises(ModelUnavailable):
        worker.store.fetch(artifact.sha256, artifact.uri)
    assert worker.store.publish(adapter) == artifact
    assert worker.store.fetch(artifact.sha256, artifact.uri).is_dir()


def test_what_a_full_disk_holds_can_be_deleted(tmp_path: Path, adapter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = Worker(tmp_path, "a")
    artifact = worker.store.publish(adapter)
    monkeypatch.setattr(os, "mkdir", full)

    worker.store.discard(artifact.sha256, artifact.uri)

    assert list((tmp_path / "a" / "artifacts").iterdir()) == []


def test_what_the_disk_does_not_let_go_of_is_logged(
    tmp_path: Path, adapter: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    worker = Worker(tmp_path, "a")
    artifact = worker.store.publish(adapter)
    monkeypatch.setattr(Path, "rename", full)

    worker.store.discard(artifact.sha256, artifact.uri)

    assert not (tmp_path / "store" / artifact.sha256).exists()
    assert f"Artifact {artifact.sha256} can't be deleted from this disk" in caplog.text


def test_only_the_artifact_s_own_directory_is_deleted(tmp_path: Path, adapter: Path) -> None:
    worker = Worker(tmp_path, "a")
    artifact = worker.store.publish(adapter)

    worker.store.discard(artifact.sha256, f"file://{tmp_path}/adapter")

    assert adapter.is_dir()
    assert Path(f"{tmp_path}/store/{artifact.sha256}").is_dir()


@pytest.mark.parametrize("harm", ["cut", "changed", "missing"])
def test_a_damaged_file_on_disk_is_replaced_from_the_store(tmp_path: Path, adapter: Path, harm: str) -> None:
    worker = Worker(tmp_path, "a")
    artifact = worker.store.publish(adapter)
    path = worker.store.fetch(artifact.sha256, artifact.uri)
    _damage(path / "adapter_model.safetensors", harm)

    path = worker.store.fetch(artifact.sha256, artifact.uri)

    assert (path / "adapter_model.safetensors").read_bytes() == bytes(range(256)) * 16


@pytest.mark.parametrize("harm", ["cut", "changed", "missing"])
def test_a_damaged_file_in_the_store_is_never_given_out(tmp_path: Path, adapter: Path, harm: str) -> None:
    artifact = Worker(tmp_path, "a").store.publish(adapter)
    _damage(tmp_path / "store" / artifact.sha256 / "adapter_model.safetensors", harm)

    with pytest.raises(ModelUnavailable, match=artifact.sha256):
        Worker(tmp_path, "b").store.fetch(artifact.sha256, artifact.uri)

    assert list((tmp_path / "b" / "artifacts").iterdir()) == []


def test_publishing_again_mends_a_file_that_was_cut_in_the_store(tmp_path: Path, adapter: Path) -> None:
    artifact = Worker(tmp_path, "a").store.publish(adapter)
    _damage(tmp_path / "store" / artifact.sha256 / "adapter_model.safetensors", "cut")

    Worker(tmp_path, "a").store.publish(adapter)

    assert Worker(tmp_path, "b").store.fetch(artifact.sha256, artifact.uri).is_dir()


@pytest.mark.parametrize("name", ["../escaped.json", "/tmp/x.json", "a/b.json", "model.bin", ".json", "x.pt"])
def test_a_manifest_that_names_other_than_plain_files_is_refused(tmp_path: Path, name: str) -> None:
    value = Manifest((ArtifactFile(name, 2, sha256(b"{}").hexdigest()),)).encode()
    digest = sha256(value).hexdigest()
    place = tmp_path / "store" / digest
    place.mkdir(parents=True)
    (place / MANIFEST_NAME).write_bytes(value)

    with pytest.raises(ModelUnavailable, match="unusable"):
        Worker(tmp_path, "a").store.fetch(digest, f"file://{place}")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "code.py", "manifest.txt.pkl", "a b.json"])
def test_what_an_artifact_may_not_hold_is_not_published(tmp_path: Path, adapter: Path, name: str) -> None:
    (adapter / name).write_bytes(b"x")

    with pytest.raises(ValueError, match=r"file name|may not be in an artifact"):
        Worker(tmp_path, "a").store.publish(adapter)


def test_links_and_directories_are_not_published(tmp_path: Path, adapter: Path) -> None:
    (adapter / "passwords.txt").symlink_to("/etc/passwd")

    with pytest.raises(ValueError, match="not a plain file"):
        Worker(tmp_path, "a").store.publish(adapter)


def test_an_empty_directory_is_not_published(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is empty"):
        Worker(tmp_path, "a").store.publish(tmp_path)


def test_a_digest_that_is_none_never_becomes_a_path(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not a SHA-256"):
        Worker(tmp_path, "a").store.fetch("../../etc", "file:///etc")


def test_a_store_that_cannot_be_written_says_so(tmp_path: Path, adapter: Path) -> None:
    (tmp_path / "store").write_text("a file, where the directory should be")

    with pytest.raises(ServerUnreachable, match="artifact store"):
        Worker(tmp_path, "a").store.publish(adapter)


def test_threads_that_want_the_same_artifact_share_one_transfer(tmp_path: Path, adapter: Path) -> None:
    artifact = Worker(tmp_path, "a").store.publish(adapter)
    worker = Worker(tmp_path, "b")

    with ThreadPoolExecutor(8) as pool:
        paths = set(pool.map(lambda _: worker.store.fetch(artifact.sha256, artifact.uri), range(8)))

    assert len(paths) == 1
    assert (worker.reads("store"), worker.reads("disk")) == (1, 7)


def test_processes_that_share_a_disk_agree_on_one_directory(tmp_path: Path, adapter: Path) -> None:
    artifact = Worker(tmp_path, "a").store.publish(adapter)
    workers = [Worker(tmp_path, "b") for _ in range(8)]

    with ThreadPoolExecutor(8) as pool:
        paths = set(pool.map(lambda worker: worker.store.fetch(artifact.sha256, artifact.uri), workers))

    assert [path.name for path in (tmp_path / "b" / "artifacts").iterdir()] == [artifact.sha256]
    assert len(paths) == 1


def test_a_redis_that_refuses_connections_is_no_error(tmp_path: Path, adapter: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with closing(RedisTier.connect(f"redis://127.0.0.1:{port}/0")) as redis:
        artifact = Worker(tmp_path, "a", redis).store.publish(adapter)

        assert Worker(tmp_path, "b", redis).store.fetch(artifact.sha256, artifact.uri).is_dir()


def test_a_redis_that_never_answers_is_waited_for_once(tmp_path: Path, adapter: Path, silent_server: str) -> None:
    artifact = Worker(tmp_path, "a").store.publish(adapter)
    with closing(RedisTier.connect(silent_server)) as redis:
        worker = Worker(tmp_path, "b", redis)

        first_s = _fetch_anew(worker, artifact)
        second_s = _fetch_anew(worker, artifact)

    assert ANSWER_S <= first_s < 3 * ANSWER_S
    assert second_s < ANSWER_S
    assert worker.reads("store") == 2


@pytest.fixture
def silent_server() -> Iterator[str]:
    """A server that takes connections and never says a word."""
    connections: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            try:
                while True:
                    connections.append(server.accept()[0])
            except OSError:
                return

        thread = threading.Thread(target=accept)
        thread.start()
        yield f"redis://127.0.0.1:{server.getsockname()[1]}/0"
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
    for connection in connections:
        connection.close()


def full(*_: object) -> NoReturn:
    """What a full disk answers."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _fetch_anew(worker: Worker, artifact: Artifact) -> float:
    """The seconds of a fetch that does not find the artifact on disk; afterwards it is not there either."""
    started_s = time.monotonic()
    path = worker.store.fetch(artifact.sha256, artifact.uri)
    fetch_s = time.monotonic() - started_s
    _damage(path / "adapter_config.json", "missing")
    return fetch_s


def _damage(file: Path, harm: str) -> None:
    match harm:
        case "cut":
            file.write_bytes(file.read_bytes()[:-1])
        case "changed":
            file.write_bytes(b"!" + file.read_bytes()[1:])
        case _:
            file.unlink()
