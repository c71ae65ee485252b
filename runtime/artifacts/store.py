"""One way in to all tiers: publish an artifact once, fetch it from the nearest tier that has it whole."""

import shutil
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from runtime.artifacts.disk import DiskTier
from runtime.artifacts.manifest import MANIFEST_NAME, Manifest, check_digest, decode_manifest, manifest_of
from runtime.artifacts.redis_tier import RedisTier
from runtime.artifacts.remote import RemoteStore
from runtime.artifacts.tier import Absent, Damaged, Missed
from runtime.monitoring import Metrics, monitor_performance
from schemas.errors import ModelUnavailable, ServerUnreachable


@dataclass(frozen=True)
class Artifact:
    """A published directory: its digest, where the store has it, and its size."""

    sha256: str
    uri: str
    size_bytes: int


class ArtifactGone(ModelUnavailable):
    """The store answers, and does not have the artifact whole: asking again does not help."""


class ArtifactUnreachable(ModelUnavailable):
    """The store does not answer, or this worker's disk does not take the artifact: it may be there (retryable)."""

    def __init__(self, uri: str, message: str) -> None:
        self._uri = uri
        super().__init__(message)

    def server(self) -> ServerUnreachable:
        """The same for whoever can wait: an outage, and not what becomes of a job."""
        return ServerUnreachable("The artifact store", self._uri, str(self))


class ArtifactStore:
    """Directories by digest: disk, then Redis, then the store.

    Blocking and thread-safe; threads that want the same artifact wait for one transfer.
    """

    def __init__(self, remote: RemoteStore, cache_dir: Path, redis: RedisTier | None, metrics: Metrics) -> None:
        self._disk = DiskTier(cache_dir / "artifacts")
        self._redis = redis
        self._remote = remote
        self._flights = _Flights()
        self._reads = metrics.counter(
            "headrace_artifacts_reads_total", "Artifacts read, by the tier that had them.", ("tier",)
        )
        self._damaged = metrics.counter(
            "headrace_artifacts_damaged_total", "Artifacts that a tier gave damaged.", ("tier",)
        )

    def scratch(self) -> AbstractContextManager[Path]:
        """An empty directory to fill and publish, on the disk where artifacts are; it is removed at the block's end.

        Raises:
            OSError: as it is entered, the disk does not take it.
        """
        return self._disk.incoming()

    @monitor_performance("artifacts.publish")
    def publish(self, directory: Path) -> Artifact:
        """Make a directory of plain files available to every worker; the same bytes get the same name.

        Raises:
            ValueError: the directory holds what an artifact may not hold.
            ServerUnreachable: the store can't be written (retryable).
            OSError: this disk does not take it.
        """
        manifest = manifest_of(directory)
        with self._flights.of(manifest.sha256):
            path = self._disk.find(manifest.sha256) or self._keep(directory, manifest)
            # The store before Redis: what Redis announces must outlive it.
            uri = self._remote.upload(path, manifest)
            if self._redis:
                self._redis.upload(path, manifest)
        return Artifact(manifest.sha256, uri, manifest.size_bytes)

    @monitor_performance("artifacts.fetch")
    def fetch(self, artifact_sha256: str, uri: str) -> Path:
        """A local directory with the artifact's files, every one compared with its digest. Read-only.

        Raises:
            ArtifactGone: no tier has it whole, and the store has said so.
            ArtifactUnreachable: the store does not answer, or this disk does not take it (retryable).
        """
        check_digest(artifact_sha256)
        with self._flights.of(artifact_sha256):
            if path := self._disk.find(artifact_sha256):
                self._reads.labels(tier="disk").inc()
                return path
            try:
                return self._from_redis(artifact_sha256) or self._from_remote(artifact_sha256, uri)
            except OSError as error:
                raise ArtifactUnreachable(
                    uri,
                    f"Artifact {artifact_sha256} can't be kept on this worker's disk: {error}. "
                    "Try again once that has room, or on another worker.",
                ) from error

    @monitor_performance("artifacts.discard")
    def discard(self, artifact_sha256: str, uri: str) -> bool:
        """Delete an artifact that nobody needs: from the store, from Redis and from this disk, as far as they answer.

        False where the store may still have it. Other machines' disks keep what they have of it.
        """
        check_digest(artifact_sha256)
        with self._flights.of(artifact_sha256):
            removed = self._remote.remove(uri, artifact_sha256)
            if self._redis:
                self._redis.remove(artifact_sha256)
            self._disk.remove(artifact_sha256)
        return removed

    def sweep(self) -> None:
        """Delete from this disk what processes that are gone have not finished."""
        self._disk.sweep()

    def close(self) -> None:
        """Close the connections."""
        if self._redis:
            self._redis.close()

    def _keep(self, directory: Path, manifest: Manifest) -> Path:
        # What lies on the same disk is not copied: a checkpoint is several times as large as its model.
        place = _link if self._disk.fills(directory) else shutil.copyfile
        with self._disk.incoming() as incoming:
            for file in manifest.files:
                place(directory / file.name, incoming / file.name)
            (incoming / MANIFEST_NAME).write_bytes(manifest.encode())
            return self._disk.adopt(incoming, manifest.sha256)

    def _from_redis(self, artifact_sha256: str) -> Path | None:
        if not self._redis:
            return None
        try:
            with self._disk.incoming() as incoming:
                self._redis.download(artifact_sha256, incoming)
                path = self._disk.adopt(incoming, artifact_sha256)
        except Missed:
            return None
        except Damaged:
            self._damaged.labels(tier=self._redis.name).inc()
            return None
        self._reads.labels(tier=self._redis.name).inc()
        return path

    def _from_remote(self, artifact_sha256: str, uri: str) -> Path:
        try:
            with self._disk.incoming() as incoming:
                self._remote.download(uri, artifact_sha256, incoming)
                path = self._disk.adopt(incoming, artifact_sha256)
        except (Absent, Damaged) as error:
            if isinstance(error, Damaged):
                self._damaged.labels(tier=self._remote.name).inc()
            raise ArtifactGone(f"{_nowhere(artifact_sha256)}, and {error}. Make it again.") from error
        except Missed as error:
            raise ArtifactUnreachable(
                uri,
                f"{_nowhere(artifact_sha256)}, and {error}. "
                "Try again once the store answers and this worker's disk has room.",
            ) from error
        self._reads.labels(tier=self._remote.name).inc()
        if self._redis:
            manifest = decode_manifest((path / MANIFEST_NAME).read_bytes(), artifact_sha256)
            self._redis.upload(path, manifest)
        return path


def _link(source: Path, target: Path) -> None:
    try:
        target.hardlink_to(source)
    except OSError:  # not every file system has links
        shutil.copyfile(source, target)


def _nowhere(artifact_sha256: str) -> str:
    return f"Artifact {artifact_sha256} is neither on this worker's disk nor in Redis"


class _Flights:
    """A lock a digest, for as long as somebody wants it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[str, tuple[threading.Lock, int]] = {}

    @contextmanager
    def of(self, artifact_sha256: str) -> Iterator[None]:
        with self._lock:
            flight, waiting = self._running.get(artifact_sha256, (threading.Lock(), 0))
            self._running[artifact_sha256] = (flight, waiting + 1)
        try:
            with flight:
                yield
        finally:
            with self._lock:
                flight, waiting = self._running[artifact_sha256]
                if waiting == 1:
                    del self._running[artifact_sha256]
                else:
                    self._running[artifact_sha256] = (flight, waiting - 1)
