"""What to do next, each with the file and line: what is missing in core modules first."""

from collections.abc import Iterable, Iterator
from typing import Final

from msgspec import Struct

from scripts.quality.coverage_report import Coverage, FileCoverage
from scripts.quality.mutants import Mutation
from scripts.quality.sources import Function

#: As our style has it: "files seldom over 250 lines, functions seldom over 40".
LONGEST_FILE: Final = 250
LONGEST_FUNCTION: Final = 40
#: Of the files outside core, those that lack the most.
_FILES: Final = 15


class Advice(Struct, frozen=True):
    """One thing to do, and where."""

    kind: str
    file: str
    line: int
    text: str

    def place(self) -> str:
        """As editors and terminals read it."""
        return f"{self.file}:{self.line}"


def on_core(coverage: Coverage, core: Iterable[str]) -> Iterator[Advice]:
    """Every line and branch of the core modules that no test took."""
    for name in sorted(core):
        if file := coverage.files.get(name):
            yield from (Advice("core branch", name, *taken) for taken in _branches(file))
            yield from (Advice("core line", name, first, _never(first, last)) for first, last in _ranges(file))


def on_mutants(mutation: Mutation) -> Iterator[Advice]:
    """Every change that no test noticed."""
    for survivor in mutation.survivors:
        change = f"became `{survivor.after}`" if survivor.after else "was left out"
        yield Advice("mutant", survivor.file, survivor.line, f"`{survivor.before}` {change}, and no test noticed")


def on_files(coverage: Coverage, core: Iterable[str]) -> Iterator[Advice]:
    """The files outside core that lack the most statements and branches, and the first lines that they lack."""
    others = {name: file for name, file in coverage.files.items() if name not in set(core) and _lacking(file)}
    for name in sorted(others, key=lambda name: (-_lacking(others[name]), name))[:_FILES]:
        file = others[name]
        counts = file.summary
        ranges = [f"{first}-{last}" if last > first else f"{first}" for first, last in _ranges(file)]
        where = f", first in lines {', '.join(ranges[:3])}" if ranges else ""
        branches = counts.num_branches - counts.covered_branches
        line = min((*file.missing_lines, *(start for start, _ in file.missing_branches)), default=1)
        yield Advice(
            "file", name, line,
            f"{len(file.missing_lines)} of {counts.num_statements} statements never ran{where}; "
            f"{branches} of {counts.num_branches} branches were never taken",
        )  # fmt: skip


def on_idle_tests(tests: Iterable[Function]) -> Iterator[Advice]:
    """Tests that look at nothing."""
    for test in tests:
        yield Advice("test", test.file, test.line, f"{test.name} asserts nothing: say what should hold")


def on_length(lines: Iterable[tuple[str, int]], functions: Iterable[Function]) -> Iterator[Advice]:
    """Functions and files that are longer than they should be, the longest first."""
    for function in sorted(functions, key=lambda one: -one.lines):
        if function.lines > LONGEST_FUNCTION:
            text = f"{function.name} has {function.lines} lines, over {LONGEST_FUNCTION}: split it"
            yield Advice("function", function.file, function.line, text)
    for name, count in sorted(lines, key=lambda pair: -pair[1]):
        if count > LONGEST_FILE:
            yield Advice("length", name, LONGEST_FILE + 1, f"{count} lines, over {LONGEST_FILE}: make it a package")


def _branches(file: FileCoverage) -> Iterator[tuple[int, str]]:
    for start, target in file.missing_branches:
        if start not in file.missing_lines:
            goes = f"on to line {target}" if target > 0 else "out of its function"
            yield start, f"line {start} never went {goes}"


def _never(first: int, last: int) -> str:
    return f"lines {first} to {last} never ran" if last > first else f"line {first} never ran"


def _ranges(file: FileCoverage) -> Iterator[tuple[int, int]]:
    """The missing lines in runs, ``(first, last)``."""
    lines = sorted(file.missing_lines)
    first = 0
    for index, line in enumerate(lines):
        if index + 1 == len(lines) or lines[index + 1] > line + 1:
            yield lines[first], line
            first = index + 1


def _lacking(file: FileCoverage) -> int:
    return len(file.missing_lines) + file.summary.num_branches - file.summary.covered_branches
