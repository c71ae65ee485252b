"""scripts/test_coverage.py on a small project, whose tests start a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
Look = tuple[int, dict[str, Any], str]
FILES = {
    "pyproject.toml": """
[tool.pytest.ini_options]
pythonpath = ["."]
[tool.coverage.run]
branch = true
source = ["app"]
parallel = true
patch = ["subprocess"]
[tool.quality]
packages = ["app"]
[tool.quality.goals]
line-percent = 60
branch-percent = 60
[tool.quality.core]
"app/core.py" = ["tests/test_core.py"]
""",
    "app/__init__.py": "",
    "app/core.py": """
def sign(value: int) -> str:
    if value < 0:
        return "-"
    return "+"
""",
    "app/__main__.py": """
import sys

print("begun in", __name__)
for word in sys.argv[1:]:
    print(word)
""",
    "tests/test_core.py": """
from app.core import sign


def test_a_positive_number_has_a_plus():
    assert sign(1) == "+"
""",
    # With an environment and a folder of its own, as our processes get them.
    "tests/test_process.py": """
import os
import subprocess
import sys
from pathlib import Path


def test_it_starts(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    command = (sys.executable, "-m", "app", "word")
    assert subprocess.run(command, cwd=tmp_path, env=environment).returncode == 0
""",
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return made(tmp_path / "project")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Look]:
    """A project whose tests were run under coverage, and what was said of it: change neither."""
    root = made(tmp_path_factory.mktemp("finished") / "project")
    return root, look(root, "--run", "--gate", "--", "tests", "-q")


def made(root: Path) -> Path:
    for name, text in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def look(project: Path, *arguments: str) -> Look:
    """The exit status, the JSON report, and what was printed."""
    out = project / "var/quality.json"
    command = (sys.executable, str(ROOT / "scripts/test_coverage.py"), "--project", str(project), "--json", str(out))
    # As from a shell, also where this test itself is watched by coverage.py.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    done = subprocess.run((*command, *arguments), env=environment, capture_output=True, text=True, check=False)
    return done.returncode, json.loads(out.read_bytes()), done.stdout + done.stderr


def part(report: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = (part for part in report["parts"] if part["name"] == name)
    return dict(found)


def test_the_lines_of_a_process_that_a_test_starts_are_counted(finished: tuple[Path, Look]) -> None:
    _, (status, report, printed) = finished
    assert status == 0, printed
    # All but core's `return "-"`: 7 of 8 statements, and 3 of 4 branches.
    assert part(report, "lines")["value"] == pytest.approx(100 * 7 / 8)
    assert part(report, "branches")["value"] == pytest.approx(100 * 3 / 4)
    assert report["processes"] == 2
    assert [(one["file"], one["line"]) for one in report["advice"][:2]] == [("app/core.py", 3), ("app/core.py", 4)]


def test_the_data_of_another_checkout_are_understood(finished: tuple[Path, Look], project: Path) -> None:
    ran, _ = finished
    status, report, printed = look(project, "--data", str(ran / "var/coverage"))
    assert status == 0, printed
    assert part(report, "lines")["value"] == pytest.approx(100 * 7 / 8)


def test_a_goal_that_is_missed_fails_the_gate(finished: tuple[Path, Look], project: Path) -> None:
    ran, _ = finished
    text = (project / "pyproject.toml").read_text().replace("line-percent = 60", "line-percent = 95")
    (project / "pyproject.toml").write_text(text)
    status, _, printed = look(project, "--data", str(ran / "var/coverage"), "--gate")
    assert status == 1
    assert "lines: 87.5 %, below the goal of 95" in printed


def test_failed_tests_fail_the_run_and_are_named_beside_the_figures(project: Path) -> None:
    (project / "tests/test_core.py").write_text("def test_it():\n    assert not 'this'\n")
    status, report, printed = look(project, "--run", "--", "tests/test_core.py", "-q")
    assert status == 1
    assert "figures are those of a failed run" in printed
    assert part(report, "lines")["value"] == 0


def test_without_data_nothing_is_zero_and_the_gate_says_what_is_missing(project: Path) -> None:
    status, report, printed = look(project, "--data", str(project / "var/coverage"), "--gate")
    assert status == 1
    assert part(report, "lines")["value"] is part(report, "branches")["value"] is None
    assert "not measured" in printed
    assert "make coverage" in part(report, "lines")["note"]


def test_where_there_is_no_mutmut_mutants_are_not_measured(project: Path) -> None:
    status, report, _ = look(project, "--mutants", "5", "--mutmut", str(project / "absent/python"))
    assert status == 0
    assert part(report, "mutants noticed")["value"] is None
    assert "make tools" in part(report, "mutants noticed")["note"]


@pytest.mark.skipif(not (ROOT / "var/tools/bin/mutmut").exists(), reason="mutmut is not installed: make tools")
def test_mutants_of_core_are_tried_and_survivors_have_their_line(project: Path) -> None:
    status, report, printed = look(project, "--mutants", "50", "--seed", "1", "--budget-s", "120")
    assert status == 0, printed
    mutation = report["mutation"]
    assert 0 < mutation["verdicts"]["killed"] < mutation["mutants"] == mutation["drawn"]
    assert ("app/core.py", 4) in {(one["file"], one["line"]) for one in mutation["survivors"]}
