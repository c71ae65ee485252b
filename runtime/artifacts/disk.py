"""The nearest tier: artifacts as directories on this machine, shared by its processes."""

import fcntl
import logging
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp
from typing import Final

from runtime.artifacts.manifest import MANIFEST_NAME, verify
from runtime.artifacts.tier import Damaged

log = logging.getLogger(__name__)

#: What the names of directories begin with that are being filled, and being deleted.
INCOMING: Final = ".incoming-"
GONE: Final = ".gone-"
#: Who makes a directory has locked it by then.
LOCKED_S: Final = 5.0
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
        path = Path(mkdtemp(prefix=INCOMING, dir=self._directory))
        with _opened(path) as handle:
            try:
                # It goes with the process, however that ends. Where the file system has no locks, nothing is swept.
                with suppress(OSError):
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                yield path
            finally:
                shutil.rmtree(path, ignore_errors=True)

    def fills(self, directory: Path) -> bool:
        """Whether it is one of those that ``incoming`` gives out."""
        return directory.parent == self._directory

    def sweep(self) -> None:
        """Delete what processes that are gone have left: directories that were being filled or deleted."""
        for path in (*self._directory.glob(f"{INCOMING}*"), *self._directory.glob(f"{GONE}*")):
            with suppress(OSError), _opened(path) as handle:
                if time.time() - os.fstat(handle).st_mtime > LOCKED_S:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
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


@contextmanager
def _opened(directory: Path) -> Iterator[int]:
    handle = os.open(directory, os.O_RDONLY)
    try:
        yield handle
    finally:
        os.close(handle)
