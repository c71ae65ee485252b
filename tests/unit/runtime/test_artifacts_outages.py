"""Artifacts where a tier is away or full: the others help, and what is not answered is not held to be gone."""

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NoReturn

import pytest
from fsspec import AbstractFileSystem, register_implementation

from runtime.artifacts import Artifact, ArtifactGone, ArtifactStore
from runtime.artifacts.redis_tier import ANSWER_S, RedisTier
from runtime.artifacts.remote import RemoteStore
from runtime.monitoring import Metrics
from schemas.errors import ModelUnavailable, ServerUnreachable
from tests.unit.runtime.keeping import Worker, damage, full, write_adapter


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    return write_adapter(tmp_path / "adapter")


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

    assert worker.store.discard(artifact.sha256, artifact.uri)

    assert not (tmp_path / "store" / artifact.sha256).exists()
    assert f"Artifact {artifact.sha256} can't be deleted from this disk" in caplog.text


def test_what_a_store_that_is_away_may_have_is_not_gone(tmp_path: Path, adapter: Path) -> None:
    artifact = Worker(tmp_path, "a").store.publish(adapter)
    (tmp_path / "store").rename(tmp_path / "away")
    (tmp_path / "store").touch()

    with pytest.raises(ModelUnavailable, match="Try again once the store answers") as caught:
        Worker(tmp_path, "b").store.fetch(artifact.sha256, artifact.uri)

    assert not isinstance(caught.value, ArtifactGone)


def test_what_a_full_disk_does_not_take_is_not_gone(
    tmp_path: Path, adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = Worker(tmp_path, "a").store.publish(adapter)
    monkeypatch.setattr(os, "mkdir", full)

    with pytest.raises(ModelUnavailable, match="No space left") as caught:
        Worker(tmp_path, "b").store.fetch(artifact.sha256, artifact.uri)

    assert not isinstance(caught.value, ArtifactGone)


class ForeignError(Exception):
    """What a client of some store raises: botocore's errors of a connection are no OSErrors either."""


class LostStore(AbstractFileSystem):  # type: ignore[misc]  # fsspec has no types
    """A store whose connections break."""

    protocol = "lost"

    def makedirs(self, *_: object, **__: object) -> NoReturn:
        raise ForeignError("the connection was reset")

    cat_file = ls = makedirs


def test_a_store_is_away_whatever_its_client_raises(
    tmp_path: Path, adapter: Path, caplog: pytest.LogCaptureFixture
) -> None:
    register_implementation("lost", LostStore, clobber=True)
    artifact = Worker(tmp_path, "a").store.publish(adapter)
    uri = f"lost://store/{artifact.sha256}"
    store = ArtifactStore(RemoteStore("lost://store"), tmp_path / "b", None, Metrics("test"))

    with pytest.raises(ServerUnreachable, match="the connection was reset"):
        store.publish(adapter)
    assert not store.discard(artifact.sha256, uri)
    with pytest.raises(ModelUnavailable, match="the connection was reset") as caught:
        store.fetch(artifact.sha256, uri)

    assert not isinstance(caught.value, ArtifactGone)
    assert f"Artifact {artifact.sha256} can't be deleted from {uri}" in caplog.text


def test_a_store_that_cannot_be_written_says_so(tmp_path: Path, adapter: Path) -> None:
    (tmp_path / "store").write_text("a file, where the directory should be")

    with pytest.raises(ServerUnreachable, match="artifact store"):
        Worker(tmp_path, "a").store.publish(adapter)


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


def _fetch_anew(worker: Worker, artifact: Artifact) -> float:
    """The seconds of a fetch that does not find the artifact on disk; afterwards it is not there either."""
    started_s = time.monotonic()
    path = worker.store.fetch(artifact.sha256, artifact.uri)
    fetch_s = time.monotonic() - started_s
    damage(path / "adapter_config.json", "missing")
    return fetch_s
