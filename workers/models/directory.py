"""A model's directory before anything in it is read: what it may hold, where its files may be, how large it is."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Final

import msgspec

from runtime.io_errors import may_pass
from schemas.errors import HeadraceError, ModelRejected, ModelUnavailable, ServerUnreachable

#: Any of these is a tokenizer that a fast one can be made from.
TOKENIZER_FILES: Final = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")
#: What a model consists of. Other files beside it make no other model of it.
CONTENT_SUFFIXES: Final = frozenset({".safetensors", ".json", ".txt", ".model", ".jinja"})


class _Config(msgspec.Struct):
    auto_map: object = None


@contextmanager
def read_from(directory: Path) -> Iterator[None]:
    """Around whatever reads a model's files: that they can't be read is no fault of the model's.

    Raises:
        ServerUnreachable: their disk does not give them now, or the directory was removed meanwhile (retryable).
        ModelUnavailable: the worker may not read them, or a link leads nowhere (retryable).
    """
    try:
        yield
    except OSError as error:
        raise unreadable(directory, error) from error


def unreadable(directory: Path, error: Exception) -> HeadraceError:
    """What to say where a model's files can't be read."""
    if may_pass(error) or not _is_there(directory):
        return ServerUnreachable("The disk with the model's files", str(directory), str(error))
    return ModelUnavailable(f"Model {directory.name} can't be read: {error}. The worker needs to read all its files.")


def _is_there(directory: Path) -> bool:
    try:
        return directory.is_dir()
    except OSError:  # nobody knows
        return True


def check_readable(directory: Path) -> None:
    """Open every file of a model; libraries say of one that can't be opened that it is missing, or damaged.

    Raises:
        ServerUnreachable, ModelUnavailable: as ``read_from``.
    """
    with read_from(directory):
        for path in _content(directory):
            with path.open("rb") as file:
                file.read(1)


def check_directory(directory: Path) -> None:
    """Refuse what can't be loaded safely, with the reason.

    Raises:
        ModelRejected: it wants code of its own, or lacks safetensors, a configuration or a tokenizer (final).
        ServerUnreachable, ModelUnavailable: as ``read_from``.
    """
    with read_from(directory):
        _check_directory(directory, {path.name for path in directory.iterdir()})


def _check_directory(directory: Path, names: set[str]) -> None:
    name = directory.name
    try:
        config = msgspec.json.decode((directory / "config.json").read_bytes(), type=_Config)
    except FileNotFoundError:
        raise ModelRejected(f"Model {name} has no config.json.") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ModelRejected(f"Model {name}: its config.json can't be read: {error}.") from None
    if config.auto_map is not None:
        raise ModelRejected(f"Model {name} needs code of its own (auto_map in config.json), which is never run.")
    if not any(file.endswith(".safetensors") for file in names):
        raise ModelRejected(f"Model {name} has no safetensors file. Convert its weights; pickles are never read.")
    if not names & set(TOKENIZER_FILES):
        raise ModelRejected(f"Model {name} has no tokenizer: none of {', '.join(TOKENIZER_FILES)} is there.")


def inside(root: Path, directory: Path) -> bool:
    """Whether the directory and every file in it really lie below the root, links followed."""
    real_root = root.resolve()
    return all(path.resolve().is_relative_to(real_root) for path in (directory, *directory.iterdir()))


def fingerprint(directory: Path) -> str:
    """Names, sizes and times of the files as a digest: another one when the model was replaced.

    The bytes are not read: that would take longer than loading them.
    """
    with os.scandir(directory) as entries:
        stats = sorted((entry.name, entry.stat().st_size, entry.stat().st_mtime_ns) for entry in entries)
    return sha256(repr((str(directory), stats)).encode()).hexdigest()


def content_digest(*directories: Path) -> str:
    """The digest of all that a model in these directories consists of: the same on every machine.

    It reads every byte, about a second a gigabyte.

    Raises:
        ServerUnreachable, ModelUnavailable: as ``read_from``.
    """
    digest = sha256()
    for directory in directories:
        with read_from(directory):
            for path in _content(directory):
                with path.open("rb") as file:
                    digest.update(f"{path.name}\0{file_digest(file, 'sha256').hexdigest()}\0".encode())
    return digest.hexdigest()


def _content(directory: Path) -> list[Path]:
    return sorted(path for path in directory.iterdir() if path.suffix in CONTENT_SUFFIXES and path.is_file())


def weights_bytes(directory: Path) -> int:
    """The size of the weights on disk: about what they take in memory."""
    return sum(path.stat().st_size for path in directory.glob("*.safetensors"))
