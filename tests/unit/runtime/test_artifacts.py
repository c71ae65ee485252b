"""The tiers of an artifact that need no server: a disk, and a store in a directory."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import pytest

from runtime.artifacts import ArtifactGone
from runtime.artifacts.disk import GONE, INCOMING
from runtime.artifacts.manifest import MANIFEST_NAME, ArtifactFile, Manifest
from schemas.errors import ModelUnavailable
from tests.unit.runtime.keeping import Worker, damage, write_adapter


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    return write_adapter(tmp_path / "adapter")


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
    damage(path / "adapter_model.safetensors", harm)

    path = worker.store.fetch(artifact.sha256, artifact.uri)

    assert (path / "adapter_model.safetensors").read_bytes() == bytes(range(256)) * 16


@pytest.mark.parametrize("harm", ["cut", "changed", "missing"])
def test_a_damaged_file_in_the_store_is_never_given_out(tmp_path: Path, adapter: Path, harm: str) -> None:
    artifact = Worker(tmp_path, "a").store.publish(adapter)
    damage(tmp_path / "store" / artifact.sha256 / "adapter_model.safetensors", harm)

    with pytest.raises(ModelUnavailable, match=artifact.sha256):
        Worker(tmp_path, "b").store.fetch(artifact.sha256, artifact.uri)

    assert list((tmp_path / "b" / "artifacts").iterdir()) == []


@pytest.mark.parametrize("file", ["adapter_model.safetensors", MANIFEST_NAME])
def test_what_the_store_lacks_is_gone(tmp_path: Path, adapter: Path, file: str) -> None:
    artifact = Worker(tmp_path, "a").store.publish(adapter)
    damage(tmp_path / "store" / artifact.sha256 / file, "missing")

    with pytest.raises(ArtifactGone, match=f"{artifact.sha256}.* Make it again"):
        Worker(tmp_path, "b").store.fetch(artifact.sha256, artifact.uri)


def test_publishing_again_mends_a_file_that_was_cut_in_the_store(tmp_path: Path, adapter: Path) -> None:
    artifact = Worker(tmp_path, "a").store.publish(adapter)
    damage(tmp_path / "store" / artifact.sha256 / "adapter_model.safetensors", "cut")

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


def test_what_is_written_beside_the_artifacts_is_not_copied(tmp_path: Path) -> None:
    store = Worker(tmp_path, "a").store
    with store.scratch() as directory:
        written = directory / "outputs.jsonl"
        written.write_text("{}")
        inode = written.stat().st_ino
        artifact = store.publish(directory)
        assert store.publish(directory) == artifact  # a repeat changes nothing

    kept = store.fetch(artifact.sha256, artifact.uri) / "outputs.jsonl"
    assert (kept.stat().st_ino, kept.read_text()) == (inode, "{}")
    assert [path.name for path in (tmp_path / "a" / "artifacts").iterdir()] == [artifact.sha256]


def test_what_killed_processes_have_left_is_deleted_and_what_others_fill_is_not(tmp_path: Path, adapter: Path) -> None:
    worker = Worker(tmp_path, "a")
    artifact = worker.store.publish(adapter)
    disk = tmp_path / "a" / "artifacts"
    for name in (f"{INCOMING}left", f"{GONE}left"):
        (disk / name).mkdir()
        (disk / name / "weights.safetensors").write_bytes(b"half")
    with worker.store.scratch() as filled:
        an_hour_ago_s = time.time() - 3_600
        for path in disk.iterdir():
            os.utime(path, (an_hour_ago_s, an_hour_ago_s))
        (disk / f"{INCOMING}new").mkdir()

        Worker(tmp_path, "a").store.sweep()

        assert {path.name for path in disk.iterdir()} == {artifact.sha256, filled.name, f"{INCOMING}new"}
