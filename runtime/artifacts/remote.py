"""The last tier and the authority: artifacts at an fsspec URI that every worker reaches."""

import logging
import os
import secrets
import shutil
from pathlib import Path
from typing import Final

import fsspec
from fsspec.implementations.local import LocalFileSystem

from runtime.artifacts.manifest import MANIFEST_NAME, Manifest, decode_manifest
from runtime.artifacts.tier import Absent, Damaged, Missed
from schemas.errors import ServerUnreachable

log = logging.getLogger(__name__)


class RemoteStore:
    """Artifacts below one URI (``file://``, ``s3://`` …), each in a directory named by its digest."""

    name: Final = "store"

    def __init__(self, uri: str) -> None:
        self._uri = uri

    def upload(self, directory: Path, manifest: Manifest) -> str:
        """Copy an artifact into the store; the URI. Repeating it changes nothing, and mends what was cut.

        The manifest is written last: a crash in between leaves files that nobody asks for.

        Raises:
            ServerUnreachable: the store can't be written (retryable).
        """
        try:
            fs, root = fsspec.core.url_to_fs(self._uri)
            target = f"{root.rstrip('/')}/{manifest.sha256}"
            fs.makedirs(target, exist_ok=True)
            sizes = {entry["name"].rpartition("/")[2]: entry["size"] for entry in fs.ls(target, detail=True)}
            for file in manifest.files:
                if sizes.get(file.name) != file.size_bytes or MANIFEST_NAME not in sizes:
                    _put(fs, directory / file.name, f"{target}/{file.name}")
            if sizes.get(MANIFEST_NAME) != len(manifest.encode()):
                _put(fs, directory / MANIFEST_NAME, f"{target}/{MANIFEST_NAME}")
            return str(fs.unstrip_protocol(target))
        except Exception as error:  # file systems of all kinds raise what they like
            raise ServerUnreachable("The artifact store", self._uri, _reason(error)) from error

    def download(self, uri: str, artifact_sha256: str, into: Path) -> None:
        """Write the artifact's files and its manifest into an empty directory.

        Raises:
            Absent: the store answers, and lacks one of its files.
            Missed: the URI can't be read, or the directory not written.
            Damaged: its manifest is not what the digest says.
        """
        try:
            fs, source = fsspec.core.url_to_fs(uri)
            value = fs.cat_file(f"{source}/{MANIFEST_NAME}")
            for file in decode_manifest(value, artifact_sha256).files:
                fs.get_file(f"{source}/{file.name}", str(into / file.name))
            (into / MANIFEST_NAME).write_bytes(value)
        except Damaged:
            raise
        except FileNotFoundError as error:
            raise Absent(f"{uri} lacks it: {_reason(error)}") from error
        except Exception as error:  # as above
            raise Missed(f"it can't be copied from {uri}: {_reason(error)}") from error

    def remove(self, uri: str, artifact_sha256: str) -> bool:
        """Delete the artifact's directory; False where the store does not let it go, which is logged."""
        try:
            fs, path = fsspec.core.url_to_fs(uri)
            # Never anything but an artifact, whatever the row says.
            if path.rstrip("/").rpartition("/")[2] == artifact_sha256:
                fs.ls(path)  # fails where the store is away; to look whether it exists says no then
                fs.rm(path, recursive=True)
        except FileNotFoundError:
            return True
        except Exception as error:  # as above
            log.warning("Artifact %s can't be deleted from %s: %s", artifact_sha256, uri, _reason(error))
            return False
        return True


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__


def _put(fs: fsspec.AbstractFileSystem, source: Path, target: str) -> None:
    """Write one file so that a reader sees all of it or nothing. Object stores do so by themselves."""
    if not isinstance(fs, LocalFileSystem):
        fs.put_file(str(source), target)
        return
    part = f"{target}.{secrets.token_hex(4)}.part"
    try:
        with source.open("rb") as reader, Path(part).open("xb") as writer:
            shutil.copyfileobj(reader, writer)
            writer.flush()
            os.fsync(writer.fileno())
        Path(part).replace(target)
    finally:
        Path(part).unlink(missing_ok=True)
