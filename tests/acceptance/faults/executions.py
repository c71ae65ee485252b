"""Who ran what: every handler writes a line when it begins and one when it ends."""

import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

import msgspec

from schemas.events import Lease


class Line(msgspec.Struct, frozen=True, omit_defaults=True):
    """A begin or an end; ``at_s`` is the machine's monotonic clock, the same for all processes."""

    token: str
    at_s: float
    tenant: str = ""
    job_id: str = ""
    attempt: int = 0
    epoch: int = 0
    worker: str = ""
    ended: bool = False


class Execution(msgspec.Struct, frozen=True):
    """One run of a handler, under the lease of one epoch; ``ended_s`` is None where it never came to its end."""

    token: str
    tenant: str
    job_id: str
    attempt: int
    epoch: int
    worker: str
    begun_s: float
    ended_s: float | None


class Journal:
    """Appends to the file of one worker; a line is written at once or not at all."""

    def __init__(self, directory: Path, worker: str) -> None:
        self._worker = worker
        self._file = os.open(directory / f"{worker}.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def begun(self, token: str, lease: Lease, attempt: int) -> None:
        """A handler has begun."""
        self._write(Line(token, time.monotonic(), lease.tenant, lease.job_id, attempt, lease.epoch, self._worker))

    def ended(self, token: str) -> None:
        """A handler has its result."""
        self._write(Line(token, time.monotonic(), ended=True))

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write(self, line: Line) -> None:
        os.write(self._file, msgspec.json.encode(line) + b"\n")


def read_executions(directory: Path, tenants: Sequence[str]) -> list[Execution]:
    """The executions of some tenants' jobs, in the order of their begin."""
    lines = list(_lines(directory))
    ends = {line.token: line.at_s for line in lines if line.ended}
    found = [
        Execution(
            line.token, line.tenant, line.job_id, line.attempt, line.epoch, line.worker, line.at_s, ends.get(line.token)
        )
        for line in lines
        if not line.ended and line.tenant in tenants
    ]
    return sorted(found, key=lambda execution: execution.begun_s)


def _lines(directory: Path) -> Iterator[Line]:
    for path in directory.glob("*.jsonl"):
        for row in path.read_bytes().splitlines():
            yield msgspec.json.decode(row, type=Line)
