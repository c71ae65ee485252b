"""How well the tests hold the project: coverage, mutants, ratio, score, and what to do next.

python scripts/test_coverage.py --run -- tests -x    run these tests under coverage first: `make coverage`
python scripts/test_coverage.py --data var/coverage  look at a run that there was: a folder, a data file, a JSON report
python scripts/test_coverage.py --mutants 200        also try mutants of the core modules

What was not measured is called that, and is no zero. The score:

    score = 100 * sum(weight * min(1, value / goal)) / sum(weight)

over the parts that were measured; weights are branches 30, mutants 30, lines 20, tests that assert 10, lines of tests
a line of source 5, functions of at most 40 lines 5. Packages, core modules and goals stand in ``[tool.quality]`` of
pyproject.toml. It is no test: pytest collects ``tests/`` alone.
"""

import argparse
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
# Run as a file, Python looks for imports beside it and not in the repository.
sys.path.insert(0, str(ROOT))

from rich.console import Console  # noqa: E402

from scripts.quality.coverage_report import Coverage  # noqa: E402
from scripts.quality.coverage_run import DATA, read_data, run_suite  # noqa: E402
from scripts.quality.mutants import Mutation  # noqa: E402
from scripts.quality.mutation_run import try_mutants  # noqa: E402
from scripts.quality.project import Project, QualityError  # noqa: E402
from scripts.quality.report import Measured, Report, report, show  # noqa: E402


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--project", type=Path, default=ROOT, help="the project's root: this one")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--run", action="store_true", help="run pytest, with what follows --, under coverage first")
    source.add_argument("--data", type=Path, help="what a run left")
    parser.add_argument("--mutants", type=int, default=0, metavar="N", help="try so many, drawn by the seed: 0")
    parser.add_argument("--seed", type=int, default=0, help="which mutants: 0")
    parser.add_argument("--budget-s", type=float, default=600.0, help="how long mutants may take: 600")
    parser.add_argument(
        "--mutmut", type=Path, default=ROOT / "var/tools/bin/python", help="the Python that has mutmut: var/tools's"
    )
    parser.add_argument("--json", type=Path, help="where to write the report as JSON")
    parser.add_argument("--most", type=int, default=20, help="how many pieces of advice to print: 20")
    parser.add_argument("--gate", action="store_true", help="fail where lines or branches miss their goals")
    parser.add_argument("pytest", nargs="*", help="pytest's arguments, after --")
    return parser.parse_args()


def measure(project: Project, options: argparse.Namespace) -> Measured:
    """Measure what was asked for; what could not be measured has its reason instead."""
    why_not = {"coverage": "no run was given: --run or --data", "mutants": "not asked for: --mutants 200"}
    coverage: Coverage | None = None
    mutation: Mutation | None = None
    data = project.root / DATA if options.run else options.data
    try:
        coverage = read_data(project, data) if data else None
    except QualityError as error:
        why_not["coverage"] = str(error)
    try:
        if options.mutants:
            mutation = try_mutants(project, options.mutmut, options.mutants, options.seed, options.budget_s)
    except QualityError as error:
        why_not["mutants"] = str(error)
    return Measured(coverage, mutation, why_not)


def main() -> int:
    """Exit status 0; pytest's where tests failed, 1 where the gate holds something back, 2 for bad usage."""
    options = arguments()
    try:
        project = Project.at(options.project)
    except QualityError as error:
        print(error, file=sys.stderr)
        return 2
    failed = run_suite(project, options.pytest) if options.run else 0
    found = report(project, measure(project, options))
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_bytes(found.json())
    console = Console()
    show(found, console, options.most)
    if failed:
        print(f"pytest ended with status {failed}: the figures are those of a failed run", file=sys.stderr)
    return failed or (gate(found) if options.gate else 0)


def gate(found: Report) -> int:
    """Exit status 1, with the reason, where a part with a gate misses its goal or was not measured."""
    for part in found.missed():
        print(f"{part.name}: {part.value:.1f} {part.unit}, below the goal of {part.goal:g}", file=sys.stderr)
    unmeasured = [part for part in found.parts if part.gates and part.value is None]
    for part in unmeasured:
        print(f"{part.name}: not measured: {part.note}", file=sys.stderr)
    return 1 if found.missed() or unmeasured else 0


if __name__ == "__main__":
    sys.exit(main())
