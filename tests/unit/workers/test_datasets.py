"""Datasets: what may be read, and what is said of a line that can't be."""

import http.server
import os
import socket
import threading
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import fsspec
import pytest

from schemas import limits
from schemas.errors import DatasetInvalid, DatasetUnreachable, ServerUnreachable
from schemas.requests import Dataset, Record
from tests.broken_disks import UNREADABLE, no_more_files
from workers.datasets import Datasets, Example

LINE = b'{"prompt": "2+2=", "completion": "4", "source": "school"}\n'


@pytest.fixture
def root(tmp_path: Path) -> Path:
    directory = tmp_path / "data"
    directory.mkdir()
    return directory


def test_the_examples_of_a_file_come_with_their_lines_and_the_digest_of_its_bytes(root: Path) -> None:
    (root / "d.jsonl").write_bytes(LINE + b"\n  \n" + LINE.strip())

    examples, digest = _read(root, "d.jsonl")

    assert examples == [Example(1, Record("2+2=", "4")), Example(4, Record("2+2=", "4"))]
    assert digest == sha256((root / "d.jsonl").read_bytes()).hexdigest()


def test_the_records_of_a_request_are_a_dataset_too(root: Path) -> None:
    records = (Record("a", "b"), Record("c", "d"))

    with Datasets([root]).open(Dataset(records=records)) as reading:
        examples = list(reading)

    assert examples == [Example(1, records[0]), Example(2, records[1])]
    assert reading.sha256 == sha256(b'{"prompt":"a","completion":"b"}\n{"prompt":"c","completion":"d"}\n').hexdigest()


def test_a_file_may_be_named_by_its_full_uri(root: Path) -> None:
    (root / "d.jsonl").write_bytes(LINE)

    assert len(_read(root, f"file://{root}/d.jsonl")[0]) == 1


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"not json", "is not JSON.*not json"),
        (b'{"prompt": "a", "completion": ', "is not JSON"),
        (b'{"prompt": "a", "completion": NaN}', "is not JSON"),
        (b"\xff\xfe", "is not JSON"),
        (b"[1, 2]", "Expected `object`"),
        (b'"text"', "Expected `object`"),
        (b'{"prompt": 5, "completion": "x"}', r"Expected `str.*prompt.*5"),
        (b'{"prompt": "", "completion": "x"}', "length >= 1"),
        (b'{"prompt": "x"}', "needs `prompt` and `completion`"),
        (b'{"text": "x"}', "needs `prompt` and `completion`"),
        (b'{"prompt": "x", "completion": "y", "messages": []}', "messages"),
        (b'{"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]}', "assistant"),
        (b'{"messages": [{"role": "boss", "content": "a"}, {"role": "assistant", "content": "b"}]}', "boss"),
        (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, "nested|recursion"),
        (b"[" * 100_000, "Expected `object`|nested"),
        (b'{"prompt": "x", "completion": "' + b"y" * limits.DATASET_LINE_BYTES + b'"}', "limit of a line"),
    ],
    ids=range(16),
)
def test_a_line_that_is_no_example_is_named_with_its_reason(root: Path, line: bytes, reason: str) -> None:
    (root / "d.jsonl").write_bytes(LINE + b"\n" + line + b"\n" + LINE)

    with pytest.raises(DatasetInvalid, match=f"^Line 3 of the dataset: .*(?:{reason})"):
        _read(root, "d.jsonl")


@pytest.mark.parametrize("content", [b"", b"\n\n  \n"])
def test_a_dataset_without_an_example_is_refused(root: Path, content: bytes) -> None:
    (root / "d.jsonl").write_bytes(content)

    with pytest.raises(DatasetInvalid, match="The dataset: it has no example"):
        _read(root, "d.jsonl")


@pytest.mark.parametrize(
    "uri",
    [
        "missing.jsonl",
        "",
        ".",
        "../outside.jsonl",
        "/etc/passwd",
        "file:///etc/passwd",
        "file://../outside.jsonl",
        "linked.jsonl",
        "linked/outside.jsonl",
        "pipe",
        "d\0.jsonl",
        "x" * 2_000,
        "s3://bucket/d.jsonl",
        "https://example.org/d.jsonl",
        "simplecache::file:///etc/passwd",
        "memory://allowed-not/d.jsonl",
        "memory://allowed/../secret/d.jsonl",
        "memory://allowed/%2e%2e/secret/d.jsonl",
        "memory://allowed/a::file:///etc/passwd",
    ],
)
def test_a_uri_that_leads_nowhere_or_outside_is_unreachable(root: Path, uri: str) -> None:
    (root.parent / "outside.jsonl").write_bytes(LINE)
    (root / "linked.jsonl").symlink_to(root.parent / "outside.jsonl")
    (root / "linked").symlink_to(root.parent)
    os.mkfifo(root / "pipe")
    fsspec.filesystem("memory").pipe_file("/secret/d.jsonl", LINE)

    with pytest.raises(DatasetUnreachable):
        _read(root, uri, "memory://allowed")


def test_a_uri_below_an_allowed_prefix_is_read(root: Path) -> None:
    fsspec.filesystem("memory").pipe_file("/allowed/d.jsonl", LINE)

    assert len(_read(root, "memory://allowed/d.jsonl", "memory://allowed")[0]) == 1


def test_the_package_that_a_protocol_needs_is_named(root: Path) -> None:
    with pytest.raises(DatasetUnreachable, match="s3fs"):
        _read(root, "s3://bucket/d.jsonl", "s3://bucket")


def test_a_missing_file_below_an_allowed_prefix_is_unreachable(root: Path) -> None:
    with pytest.raises(DatasetUnreachable, match=r"memory://allowed/gone.jsonl"):
        _read(root, "memory://allowed/gone.jsonl", "memory://allowed")


def test_a_disk_that_fails_is_not_the_senders_fault() -> None:
    with pytest.raises(ServerUnreachable, match=f"'{UNREADABLE.name}' is not reachable: .*Input/output error"):
        _read(UNREADABLE.parent, UNREADABLE.name)


def test_a_worker_that_can_open_no_more_files_denies_no_dataset(root: Path) -> None:
    (root / "d.jsonl").write_bytes(LINE)

    with no_more_files(), pytest.raises(ServerUnreachable, match="Too many open files"):
        _read(root, "d.jsonl")


class Failing(http.server.BaseHTTPRequestHandler):
    """Answers with the status that the path names."""

    def do_GET(self) -> None:
        self.send_response(int(self.path.strip("/")))
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET  # noqa: N815  the server's naming

    def log_message(self, format: str, *args: object) -> None:
        """Keep the test's output clean."""


@pytest.fixture
def server() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Failing) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(("status", "error"), [(503, ServerUnreachable), (403, DatasetUnreachable)])
def test_a_server_that_fails_is_told_from_one_that_refuses(
    root: Path, server: str, status: int, error: type[Exception]
) -> None:
    with pytest.raises(error, match=str(status)):
        _read(root, f"{server}/{status}", server)


def test_a_server_that_is_away_is_not_the_senders_fault(root: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = f"http://127.0.0.1:{closed.getsockname()[1]}"

    with pytest.raises(ServerUnreachable, match=r"d\.jsonl"):
        _read(root, f"{address}/d.jsonl", address)


def test_what_the_reader_of_the_examples_raises_is_not_the_datasets_fault(root: Path) -> None:
    (root / "d.jsonl").write_bytes(LINE)

    def use(examples: Iterator[Example]) -> None:
        next(examples)
        raise OSError("a full disk")

    with pytest.raises(OSError, match="a full disk"), Datasets([root]).open(Dataset(uri="d.jsonl")) as reading:
        use(iter(reading))


def _read(root: Path, uri: str, *prefixes: str) -> tuple[list[Example], str]:
    with Datasets([root], prefixes).open(Dataset(uri=uri)) as reading:
        return list(reading), reading.sha256
