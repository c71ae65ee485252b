"""What a run covered, from the JSON report of coverage.py (its format 3)."""

from collections.abc import Iterable

import msgspec
from msgspec import Struct

from scripts.quality.project import QualityError


class Summary(Struct, frozen=True):
    """The counts of a file. Without ``--branch`` a report has no branches."""

    num_statements: int
    covered_lines: int
    num_branches: int = 0
    covered_branches: int = 0


class FileCoverage(Struct, frozen=True):
    """What of a file ran. A branch is a pair of lines, its second negative where it leaves the function."""

    summary: Summary
    missing_lines: tuple[int, ...] = ()
    missing_branches: tuple[tuple[int, int], ...] = ()


class Meta(Struct, frozen=True):
    """How the report was made."""

    branch_coverage: bool
    timestamp: str = ""


class Coverage(Struct, frozen=True):
    """What of each file of the project ran, in all processes that left data."""

    meta: Meta
    files: dict[str, FileCoverage]
    #: The processes whose data were combined; None where the report does not tell.
    processes: int | None = None

    def line_percent(self) -> float | None:
        """Of 100 statements those that ran; None where there are none."""
        return _percent((file.summary.covered_lines, file.summary.num_statements) for file in self.files.values())

    def branch_percent(self) -> float | None:
        """Of 100 branches those that were taken; None where none was watched."""
        if not self.meta.branch_coverage:
            return None
        return _percent((file.summary.covered_branches, file.summary.num_branches) for file in self.files.values())


def read_report(data: bytes, packages: tuple[str, ...], processes: int | None = None) -> Coverage:
    """The part of a JSON report that is about the files of these packages.

    Raises:
        QualityError: it is no such report, or has none of these files.
    """
    try:
        report = msgspec.json.decode(data, type=Coverage)
    except msgspec.DecodeError as error:
        raise QualityError(f"that is no JSON report of coverage.py: {error}; make one by `coverage json`") from error
    prefixes = tuple(f"{package}/" for package in packages)
    files = {name: file for name, file in report.files.items() if name.startswith(prefixes)}
    if not files:
        raise QualityError(f"the report has no file of {', '.join(packages)}: was it made in another project?")
    return Coverage(report.meta, files, processes)


def _percent(counts: Iterable[tuple[int, int]]) -> float | None:
    pairs = list(counts)
    whole = sum(all_of_it for _, all_of_it in pairs)
    return 100 * sum(part for part, _ in pairs) / whole if whole else None
