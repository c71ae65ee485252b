"""Datasets: examples from the request itself or from a JSONL file, read line by line within limits.

A URI is a path below a data root, relative or as ``file://``; or it begins with one of the remote
prefixes that the operator allows (none by default: a worker's own credentials and network reach further
than a tenant should).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, Final

import fsspec
import msgspec

from runtime.io_errors import may_pass
from schemas import limits
from schemas.errors import DatasetInvalid, DatasetUnreachable, HeadraceError, ServerUnreachable, shown
from schemas.explain import explain
from schemas.requests import Dataset, Record

_decoder: Final = msgspec.json.Decoder(Record)


@dataclass(frozen=True)
class Example:
    """A record, and the line or place that it has in its dataset, from 1."""

    line: int
    record: Record


class Reading:
    """One pass over a dataset. ``sha256`` is that of the bytes read so far: all of them at the end."""

    def __init__(self, examples: Iterator[Example], digest: "_Digest") -> None:
        self._examples = examples
        self._digest = digest

    def __iter__(self) -> Iterator[Example]:
        return self._examples

    @property
    def sha256(self) -> str:
        """The digest of the file's bytes, or of the records' JSON lines."""
        return self._digest.hexdigest()


class DatasetAway(ServerUnreachable):
    """The place of a dataset does not answer now. It is its client's to say, so that it may be wrong for good."""

    def __init__(self, uri: str, reason: str) -> None:
        self.uri = uri
        super().__init__("The place of the dataset", shown(uri), reason)


class Datasets:
    """Reads datasets. Blocking and thread-safe."""

    def __init__(self, roots: Sequence[Path], remote_prefixes: Sequence[str] = ()) -> None:
        self._roots = tuple(roots)
        # With the slash, so that s3://bucket/data does not open s3://bucket/data-of-others.
        self._remote_prefixes = tuple(f"{prefix.rstrip('/')}/" for prefix in remote_prefixes)

    @contextmanager
    def open(self, dataset: Dataset) -> Iterator[Reading]:
        """Read a dataset lazily: a line is read and checked when its example is asked for.

        Raises:
            DatasetUnreachable: the URI is not allowed, is not there, or can't be read (final).
            DatasetInvalid: a line is not an example, there is none, or a limit is broken (final).
            DatasetAway: its disk or server fails, or breaks off (retryable).
        """
        digest = _Digest()
        if dataset.records is not None:
            yield Reading(_from_records(dataset.records, digest), digest)
            return
        uri = dataset.uri or ""
        with _unreachable(uri):
            file = self._open(uri)
        with file:
            yield Reading(_from_lines(uri, file, digest), digest)

    def _open(self, uri: str) -> BinaryIO:
        if uri.startswith(self._remote_prefixes) and self._remote_prefixes:
            _check_remote(uri)
            opened: BinaryIO = fsspec.open(uri, "rb").open()
            return opened
        scheme, separator, rest = uri.partition("://")
        if separator and scheme != "file":
            raise DatasetUnreachable(uri, f"its place is not allowed here. Allowed are {self._allowed()}.")
        path = rest if separator else uri
        for root in self._roots:
            found = (root / path).resolve()
            if found.is_relative_to(root.resolve()) and found.is_file():
                return found.open("rb")
        raise DatasetUnreachable(uri, f"there is no such file below {self._allowed()}.")

    def _allowed(self) -> str:
        return ", ".join([*map(str, self._roots), *self._remote_prefixes])


class _Digest:
    """A SHA-256 and a count of the bytes that went into it, bounded."""

    def __init__(self) -> None:
        self._sha256 = sha256()
        self._size_bytes = 0

    def add(self, value: bytes, line: int) -> None:
        self._sha256.update(value)
        self._size_bytes += len(value)
        if self._size_bytes > limits.DATASET_BYTES:
            raise DatasetInvalid(f"here it exceeds {limits.DATASET_BYTES:,} bytes, the limit. Split it.", line=line)

    def hexdigest(self) -> str:
        return self._sha256.hexdigest()


def _from_records(records: Sequence[Record], digest: _Digest) -> Iterator[Example]:
    for line, record in enumerate(records, start=1):
        digest.add(msgspec.json.encode(record) + b"\n", line)
        yield Example(line, record)


def _from_lines(uri: str, file: BinaryIO, digest: _Digest) -> Iterator[Example]:
    found = False
    line = 0
    # One byte more than the limit is enough to see that a line is too long, however long it is.
    while value := _read_line(uri, file, limits.DATASET_LINE_BYTES + 1):
        line += 1
        if len(value.removesuffix(b"\n")) > limits.DATASET_LINE_BYTES:
            raise DatasetInvalid(
                f"it is longer than {limits.DATASET_LINE_BYTES:,} bytes, the limit of a line.", line=line
            )
        digest.add(value, line)
        if value.strip():
            found = True
            yield Example(line, _record(value, line))
    if not found:
        raise DatasetInvalid("it has no example. Write one JSON object a line.")


def _read_line(uri: str, file: BinaryIO, size_bytes: int) -> bytes:
    with _unreachable(uri):
        return file.readline(size_bytes)


def _record(value: bytes, line: int) -> Record:
    try:
        return _decoder.decode(value)
    except msgspec.ValidationError as error:
        raise DatasetInvalid(f"{explain(error, Record, value)}. It begins {shown(_beginning(value))}.", line) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DatasetInvalid(f"it is not JSON: {error}. It begins {shown(_beginning(value))}.", line) from None
    except RecursionError:
        raise DatasetInvalid("it is nested too deeply to be read. Flatten it.", line) from None


def _beginning(value: bytes) -> str:
    return value[:40].decode(errors="replace").strip()


def _check_remote(uri: str) -> None:
    # `::` chains fsspec protocols, which would lead out of the prefix; so would climbing, plain or encoded.
    path = uri.partition("?")[0]
    if "::" in uri or ".." in path or "%2e" in path.lower() or "\\" in path:
        raise DatasetUnreachable(uri, "it climbs out of its allowed place.")


@contextmanager
def _unreachable(uri: str) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise DatasetUnreachable(uri, f"this worker lacks the package for it: {error}") from error
    except HeadraceError:
        raise
    except Exception as error:  # file systems of all kinds raise what they like
        if may_pass(error):
            raise DatasetAway(uri, str(error) or type(error).__name__) from error
        raise DatasetUnreachable(uri, str(error) or type(error).__name__) from error
