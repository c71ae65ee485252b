"""The report: measures beside their goals, the score, and what to do next; as JSON and for a terminal."""

from datetime import UTC, datetime

import msgspec
from msgspec import Struct
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from scripts.quality import advice, sources
from scripts.quality.advice import Advice
from scripts.quality.coverage_report import Coverage
from scripts.quality.mutants import Mutation
from scripts.quality.project import Project
from scripts.quality.score import Part, Score, score


class Measured(Struct, frozen=True):
    """What there is to report; of what was not measured the reason is in ``why_not``, by the same name."""

    coverage: Coverage | None = None
    mutation: Mutation | None = None
    why_not: dict[str, str] = {}


class Report(Struct, frozen=True):
    """Everything that was found."""

    date: str
    parts: tuple[Part, ...]
    score: Score
    #: The processes whose coverage was combined; None where nothing tells.
    processes: int | None
    mutation: Mutation | None
    advice: tuple[Advice, ...]

    def missed(self) -> list[Part]:
        """The parts that have a gate, were measured, and are below their goals."""
        return [part for part in self.parts if part.gates and part.misses()]

    def json(self) -> bytes:
        """The report as JSON, indented."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"


def report(project: Project, measured: Measured) -> Report:
    """Look at the files, and put everything together."""
    core = project.table.core
    source_texts = {file: project.text(file) for file in project.sources()}
    test_texts = {file: project.text(file) for file in project.test_files()}
    tests = [function for file, text in test_texts.items() for function in sources.functions(file, text)]
    functions = [function for file, text in source_texts.items() for function in sources.functions(file, text)]
    idle = sources.idle_tests(tests)
    lengths = [(file, text.count("\n")) for file, text in source_texts.items()]
    coverage, mutation = measured.coverage, measured.mutation
    found = [
        *(advice.on_core(coverage, core) if coverage else ()),
        *(advice.on_mutants(mutation) if mutation else ()),
        *(advice.on_files(coverage, core) if coverage else ()),
        *advice.on_idle_tests(idle),
        *advice.on_length(lengths, functions),
    ]
    ratio = _ratio(test_texts, source_texts)
    parts = (*_run_parts(project, measured), *_file_parts(project, ratio, tests, len(idle), functions))
    processes = coverage.processes if coverage else None
    return Report(
        datetime.now(UTC).isoformat(timespec="seconds"), parts, score(parts), processes, mutation, tuple(found)
    )


def show(report: Report, console: Console, most: int) -> None:
    """Print the report, with at most so many pieces of advice."""
    table = Table("part", "measured", "goal", "weight", "note", title="Quality of the tests")
    for part in report.parts:
        value = "not measured" if part.value is None else f"{part.value:.1f} {part.unit}"
        style = "yellow" if part.value is None else "red" if part.misses() else "green"
        table.add_row(
            part.name, f"[{style}]{value}[/]", f"{part.goal:g} {part.unit}", str(part.weight), escape(part.note)
        )
    console.print(table)
    points = "none, too little was measured" if report.score.points is None else f"{report.score.points:.1f} of 100"
    console.print(f"Score: {points}, on {report.score.measured_weight} of 100 of the weight.")
    console.print(f"  {report.score.formula}", soft_wrap=True)
    for one in report.advice[:most]:
        console.print(f"{one.place()}  [dim]{one.kind}[/]  {escape(one.text)}", soft_wrap=True, highlight=False)
    if len(report.advice) > most:
        console.print(f"… and {len(report.advice) - most} more in the JSON report")


def _run_parts(project: Project, measured: Measured) -> tuple[Part, Part, Part]:
    goals, why_not = project.table.goals, measured.why_not
    coverage, mutation = measured.coverage, measured.mutation
    line = coverage.line_percent() if coverage else None
    branch = coverage.branch_percent() if coverage else None
    lines_note = why_not.get("coverage", "") if not coverage else _processes(coverage)
    branches_note = "the run watched no branches: set branch = true" if coverage and branch is None else lines_note
    return (
        Part("lines", line, goals.line_percent, "%", 20, lines_note),
        Part("branches", branch, goals.branch_percent, "%", 30, branches_note),
        Part(
            "mutants noticed", mutation.percent() if mutation else None, goals.mutant_percent, "%", 30,
            _mutants(mutation) if mutation else why_not.get("mutants", ""),
            gates=False,
        ),
    )  # fmt: skip


def _file_parts(
    project: Project, ratio: float | None, tests: list[sources.Function], idle: int, functions: list[sources.Function]
) -> tuple[Part, Part, Part]:
    count = sum(test.name.startswith("test_") for test in tests)
    long = sum(function.lines > advice.LONGEST_FUNCTION for function in functions)
    asserting = 100 * (count - idle) / count if count else None
    short = 100 * (len(functions) - long) / len(functions) if functions else None
    return (
        Part("tests that assert", asserting, 100, "%", 10, f"{idle} of {count} assert nothing", gates=False),
        Part(
            "tests to source", ratio, project.table.goals.test_ratio, "lines a line", 5, "code alone, without comments",
            gates=False,
        ),
        Part("short functions", short, 100, "%", 5, f"{long} of {len(functions)} are too long", gates=False),
    )  # fmt: skip


def _ratio(tests: dict[str, str], source: dict[str, str]) -> float | None:
    lines = sum(map(sources.code_lines, source.values()))
    return sum(map(sources.code_lines, tests.values())) / lines if lines else None


def _processes(coverage: Coverage) -> str:
    if coverage.processes is None:
        return "from a finished report"
    return f"{coverage.processes} processes; those killed by SIGKILL left nothing"


def _mutants(mutation: Mutation) -> str:
    interval = mutation.interval()
    spread = f", 95 %: {interval[0]:.0f} to {interval[1]:.0f}" if interval else ""
    of = f"{mutation.tried()} tried of {mutation.drawn} drawn (seed {mutation.seed}) of {mutation.mutants}"
    return f"{of}{spread}"
