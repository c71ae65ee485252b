"""A model's directory before anything in it is read: what it may hold, where its files may be, how large it is."""

import os
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Final

import msgspec

from schemas.errors import ModelRejected

#: Any of these is a tokenizer that a fast one can be made from.
TOKENIZER_FILES: Final = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")
#: What a model consists of. Other files beside it make no other model of it.
CONTENT_SUFFIXES: Final = frozenset({".safetensors", ".json", ".txt", ".model", ".jinja"})


class _Config(msgspec.Struct):
    auto_map: object = None


def check_directory(directory: Path) -> None:
    """Refuse what can't be loaded safely, with the reason.

    Raises:
        ModelRejected: it wants code of its own, or lacks safetensors, a configuration or a tokenizer (final).
    """
    name = directory.name
    try:
        config = msgspec.json.decode((directory / "config.json").read_bytes(), type=_Config)
    except FileNotFoundError:
        raise ModelRejected(f"Model {name} has no config.json.") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ModelRejected(f"Model {name}: its config.json can't be read: {error}.") from None
    if config.auto_map is not None:
        raise ModelRejected(f"Model {name} needs code of its own (auto_map in config.json), which is never run.")
    if not any(directory.glob("*.safetensors")):
        raise ModelRejected(f"Model {name} has no safetensors file. Convert its weights; pickles are never read.")
    if not any((directory / file).exists() for file in TOKENIZER_FILES):
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
    """
    digest = sha256()
    for directory in directories:
        for path in sorted(path for path in directory.iterdir() if path.suffix in CONTENT_SUFFIXES):
            with path.open("rb") as file:
                digest.update(f"{path.name}\0{file_digest(file, 'sha256').hexdigest()}\0".encode())
    return digest.hexdigest()


def weights_bytes(directory: Path) -> int:
    """The size of the weights on disk: about what they take in memory."""
    return sum(path.stat().st_size for path in directory.glob("*.safetensors"))
