"""The report of a project: what it says of parts that were not measured, and in which order it advises."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from scripts.quality.coverage_report import Coverage, FileCoverage, Meta, Summary
from scripts.quality.mutants import Mutation, Survivor
from scripts.quality.project import Project, QualityError
from scripts.quality.report import Measured, Report, report, show

PYPROJECT = """
[tool.quality]
packages = ["app"]
[tool.quality.goals]
line-percent = 80
[tool.quality.core]
"app/core.py" = ["tests/test_core.py"]
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    files = {
        "pyproject.toml": PYPROJECT,
        "app/core.py": "def f():\n    return 1\n",
        "app/rest.py": "x = 1\n",
        "tests/test_core.py": "def test_it():\n    pass\n\n\ndef test_more():\n    assert f() == 1\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return Project.at(tmp_path)


def coverage(*, branches: bool = True) -> Coverage:
    core = FileCoverage(Summary(10, 7, 4, 3), missing_lines=(2,), missing_branches=((1, 2),))
    return Coverage(Meta(branch_coverage=branches), {"app/core.py": core}, processes=3)


def printed(found: Report, most: int = 20) -> str:
    text = io.StringIO()
    show(found, Console(file=text, width=200), most)
    return text.getvalue()


def test_parts_that_were_not_measured_say_so_and_why(project: Project) -> None:
    found = report(project, Measured(why_not={"coverage": "no run was given", "mutants": "not asked for"}))
    parts = {part.name: part for part in found.parts}
    for name, why in (
        ("lines", "no run was given"),
        ("branches", "no run was given"),
        ("mutants noticed", "not asked for"),
    ):
        assert parts[name].value is None
        assert parts[name].note == why
    assert "not measured" in printed(found)
    assert " 0.0 %" not in printed(found)
    assert found.score.points is None
    assert "none, too little was measured" in printed(found)


def test_a_run_without_branches_says_what_to_set(project: Project) -> None:
    parts = {part.name: part for part in report(project, Measured(coverage(branches=False))).parts}
    assert parts["lines"].value == 70
    assert parts["branches"].value is None
    assert "branch = true" in parts["branches"].note


def test_the_gate_is_of_lines_and_branches(project: Project) -> None:
    missed = report(project, Measured(coverage(), Mutation(5, 5, 0, {"survived": 5}))).missed()
    assert {part.name: part.value for part in missed} == {"lines": 70, "branches": 75}


def test_core_comes_first_then_mutants_then_tests(project: Project) -> None:
    mutation = Mutation(5, 5, 0, {"survived": 1}, (Survivor("m", "app/core.py", 2, "return 1", "return 2"),))
    found = report(project, Measured(coverage(), mutation))
    assert [one.kind for one in found.advice] == ["core branch", "core line", "mutant", "test"]
    assert found.advice[-1].place() == "tests/test_core.py:1"


def test_the_ratio_is_of_lines_of_code(project: Project) -> None:
    parts = {part.name: part for part in report(project, Measured()).parts}
    assert parts["tests to source"].value == pytest.approx(4 / 3)
    assert parts["tests that assert"].value == 50


def test_the_json_holds_everything_that_the_terminal_leaves_out(project: Project) -> None:
    found = report(project, Measured(coverage()))
    assert "more in the JSON report" in printed(found, most=1)
    told = json.loads(found.json())
    assert len(told["advice"]) == len(found.advice) > 1
    assert told["processes"] == 3
    assert "sum(weight" in told["score"]["formula"]


def test_square_brackets_of_the_code_are_no_markup(project: Project) -> None:
    mutation = Mutation(5, 5, 0, {"survived": 1}, (Survivor("m", "app/core.py", 2, "a[bold]", "a[red]"),))
    assert "`a[bold]` became `a[red]`" in printed(report(project, Measured(mutation=mutation)))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "has no \\[tool.quality\\]"),
        ("[tool.quality]\npackages = 3", "packages"),
        ('[tool.quality]\npackages = ["app"]\ntypo = 1', "typo"),
        ('[tool.quality]\npackages = ["app"]\n[tool.quality.core]\n"app/gone.py" = []', "app/gone.py"),
        ("not toml", "can't be read|pyproject"),
    ],
)
def test_a_wrong_table_is_refused_with_what_is_wrong(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "pyproject.toml").write_text(text)
    with pytest.raises(QualityError, match=complaint):
        Project.at(tmp_path)


def test_our_own_table_names_files_that_exist() -> None:
    project = Project.at(Path(__file__).parents[3])
    assert set(project.table.core) <= set(project.sources())
