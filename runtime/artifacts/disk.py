"""The nearest tier: artifacts as directories on this machine, shared by its processes."""

import logging
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import Final

from runtime.artifacts.manifest import MANIFEST_NAME, verify
from runtime.artifacts.tier import Damaged

log = logging.getLogger(__name__)

#: What the name of a directory begins with that is being deleted.
GONE: Final = ".gone-"
#: What a file looked like when its digest was last compared: size in bytes, time of change, inode.
Signature = tuple[tuple[str, int, int, int], ...]


class DiskTier:
    """Whole artifacts below one directory. A directory gets its final name only when it is complete."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._verified: dict[str, Signature] = {}

    def find(self, artifact_sha256: str) -> Path | None:
        """The artifact's directory, or None.

        Its bytes are compared with the digests the first time, and again when a file has changed;
        a damaged directory is removed.
        """
        path = self._directory / artifact_sha256
        if not path.is_dir():
            return None
        try:
            if self._verified.get(artifact_sha256) != _signature(path):
                verify(path, artifact_sha256)
                self._verified[artifact_sha256] = _signature(path)
        except (Damaged, OSError):
            self._discard(path)
            return None
        return path

    @contextmanager
    def incoming(self) -> Iterator[Path]:
        """An empty directory to fill and then ``adopt``; what is not adopted is removed."""
        self._directory.mkdir(parents=True, exist_ok=True)
        path = Path(mkdtemp(prefix=".incoming-", dir=self._directory))
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def adopt(self, incoming: Path, artifact_sha256: str) -> Path:
        """Give a filled directory its final name, once its bytes are what the digests say.

        Raises:
            Damaged: they are not.
            OSError: the disk does not take it, or not give its bytes back.
        """
        verify(incoming, artifact_sha256)
        path = self._directory / artifact_sha256
        try:
            incoming.rename(path)
        except OSError:
            # Another process was faster. What it has put there was verified by it, and is by `find`.
            if (found := self.find(artifact_sha256)) is None:
                incoming.rename(path)
            else:
                return found
        self._verified[artifact_sha256] = _signature(path)
        return path

    def remove(self, artifact_sha256: str) -> None:
        """Delete the artifact's directory, if there is one; where the disk does not let go of it, that is logged."""
        self._verified.pop(artifact_sha256, None)
        self._discard(self._directory / artifact_sha256)

    def _discard(self, path: Path) -> None:
        # Renamed first, so that no other process sees half of it, and to a name beside it, for a full disk takes no
        # new directory: deleting is what gives it room.
        gone = path.with_name(f"{GONE}{secrets.token_hex(8)}")
        try:
            path.rename(gone)
        except FileNotFoundError:
            return
        except OSError as error:
            log.warning("Artifact %s can't be deleted from this disk: %s", path.name, error)
            return
        shutil.rmtree(gone, ignore_errors=True)


def _signature(directory: Path) -> Signature:
    with os.scandir(directory) as entries:
        stats = sorted((entry.name, entry.stat()) for entry in entries)
    if MANIFEST_NAME not in (name for name, _ in stats):
        raise FileNotFoundError(directory / MANIFEST_NAME)
    return tuple((name, stat.st_size, stat.st_mtime_ns, stat.st_ino) for name, stat in stats)
