"""What an artifact consists of: its files' names, sizes and digests. Their digest is its name."""

import re
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from runtime.artifacts.tier import Damaged
from schemas.errors import shown

MANIFEST_NAME: Final = "manifest.json"
#: What a model or an evaluation consists of. Nothing that is executed or unpickled when it is loaded.
SUFFIXES: Final = frozenset({".safetensors", ".json", ".jsonl", ".txt", ".model", ".jinja"})
_PLAIN_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


class ArtifactFile(Struct, frozen=True, forbid_unknown_fields=True):
    """One file of an artifact."""

    name: str
    size_bytes: int
    sha256: str


class Manifest(Struct, frozen=True, forbid_unknown_fields=True):
    """The files of an artifact, sorted by name."""

    files: tuple[ArtifactFile, ...]

    @property
    def size_bytes(self) -> int:
        """The files' size, the manifest's own not included."""
        return sum(file.size_bytes for file in self.files)

    def encode(self) -> bytes:
        """The manifest's bytes: the same for the same files."""
        return msgspec.json.encode(self)

    @property
    def sha256(self) -> str:
        """The artifact's name."""
        return sha256(self.encode()).hexdigest()


def manifest_of(directory: Path) -> Manifest:
    """Describe the files of a directory that is to be published.

    Raises:
        ValueError: it is empty, or holds something that an artifact may not hold.
    """
    paths = sorted(path for path in directory.iterdir() if path.name != MANIFEST_NAME)
    if not paths:
        raise ValueError(f"{directory} is empty; an artifact has at least one file")
    for path in paths:
        if path.is_symlink() or not path.is_file():
            raise ValueError(f"{path} is not a plain file; an artifact has no links and no directories")
        _check_name(path.name)
    return Manifest(tuple(ArtifactFile(path.name, path.stat().st_size, digest_of(path)) for path in paths))


def decode_manifest(value: bytes, artifact_sha256: str) -> Manifest:
    """The manifest of an artifact, proven by the artifact's name.

    Raises:
        Damaged: the bytes have another digest, or name files that may not be written.
    """
    if sha256(value).hexdigest() != artifact_sha256:
        raise Damaged(f"the manifest of {artifact_sha256} has another digest")
    try:
        manifest = msgspec.json.decode(value, type=Manifest)
        for file in manifest.files:
            _check_name(file.name)
    except (msgspec.DecodeError, ValueError) as error:
        raise Damaged(f"the manifest of {artifact_sha256} is unusable: {error}") from None
    return manifest


def verify(directory: Path, artifact_sha256: str) -> Manifest:
    """Read every byte of an artifact's directory and compare it with the digests.

    Raises:
        Damaged: a file is missing, cut or changed.
        OSError: the disk does not give its bytes, which says nothing about them.
    """
    try:
        manifest = decode_manifest((directory / MANIFEST_NAME).read_bytes(), artifact_sha256)
        for file in manifest.files:
            path = directory / file.name
            if path.stat().st_size != file.size_bytes or digest_of(path) != file.sha256:
                raise Damaged(f"{file.name} of {artifact_sha256} is damaged")
    except FileNotFoundError as error:
        raise Damaged(f"artifact {artifact_sha256} is incomplete: {error}") from None
    return manifest


def digest_of(path: Path) -> str:
    """The SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def check_digest(artifact_sha256: str) -> str:
    """The digest itself, once it is known to be one: it becomes part of paths and keys.

    Raises:
        ValueError: it is not 64 hex digits.
    """
    if not _DIGEST.fullmatch(artifact_sha256):
        raise ValueError(f"{shown(artifact_sha256)} is not a SHA-256 in lower-case hex")
    return artifact_sha256


def may_hold(name: str) -> bool:
    """Whether an artifact may hold a file of this name."""
    try:
        _check_name(name)
    except ValueError:
        return False
    return True


def _check_name(name: str) -> None:
    if not _PLAIN_NAME.fullmatch(name) or name == MANIFEST_NAME:
        raise ValueError(f"{shown(name)} is not a plain file name")
    if Path(name).suffix not in SUFFIXES:
        raise ValueError(f"{shown(name)} may not be in an artifact; allowed are {', '.join(sorted(SUFFIXES))}")
