"""A model of the artifact store: directories of files in memory, which all workers of a simulation share."""

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256

from runtime.artifacts import Artifact, ArtifactGone


class SimDirectory(dict[str, bytes]):
    """Files by name; as much of ``Path`` as those have to know who fill it."""

    def __truediv__(self, name: str) -> "_File":
        return _File(self, name)


class _File:
    def __init__(self, directory: SimDirectory, name: str) -> None:
        self._directory = directory
        self._name = name

    def write_bytes(self, content: bytes) -> None:
        self._directory[self._name] = content


class SimArtifacts:
    """As ``runtime.artifacts.ArtifactStore``, for what checkpoints do with it."""

    def __init__(self) -> None:
        self._published: dict[str, SimDirectory] = {}

    @contextmanager
    def scratch(self) -> Iterator[SimDirectory]:
        """A directory to be filled."""
        yield SimDirectory()

    def publish(self, directory: SimDirectory) -> Artifact:
        """Keep it, under its digest."""
        digest = sha256(repr(sorted(directory.items())).encode()).hexdigest()
        self._published[digest] = directory
        return Artifact(digest, f"sim:{digest}", sum(map(len, directory.values())))

    def fetch(self, artifact_sha256: str, _uri: str) -> SimDirectory:
        """What was published under this digest, unless it was discarded."""
        try:
            return self._published[artifact_sha256]
        except KeyError:
            raise ArtifactGone(f"Nothing lies under {artifact_sha256}.") from None

    def discard(self, artifact_sha256: str, _uri: str) -> bool:
        """Forget it."""
        self._published.pop(artifact_sha256, None)
        return True
