"""What is read from a JSON report of coverage.py."""

import json

import pytest

from scripts.quality.coverage_report import read_report
from scripts.quality.project import QualityError


def report(*, branches: bool = True, **files: tuple[int, int, int, int]) -> bytes:
    """A report of ``lines, covered lines, branches, covered branches`` by file; ``app__x`` is ``app/x.py``."""
    described = {}
    for name, (lines, covered, forks, taken) in files.items():
        summary = {"num_statements": lines, "covered_lines": covered, "percent_covered": 0.0}
        if branches:
            summary |= {"num_branches": forks, "covered_branches": taken}
        described[f"{name.replace('__', '/')}.py"] = {"summary": summary, "missing_lines": [], "executed_lines": [1]}
    meta = {"format": 3, "branch_coverage": branches, "timestamp": "2026-11-28T00:00:00"}
    return json.dumps({"meta": meta, "files": described, "totals": {}}).encode()


def test_percentages_are_of_all_statements_and_not_means_of_files() -> None:
    coverage = read_report(report(app__long=(90, 90, 10, 10), app__short=(10, 0, 10, 0)), ("app",))
    assert coverage.line_percent() == 90
    assert coverage.branch_percent() == 50


def test_files_of_other_folders_do_not_count() -> None:
    coverage = read_report(report(app__x=(10, 5, 0, 0), tests__x=(100, 100, 0, 0), apples__x=(9, 9, 0, 0)), ("app",))
    assert coverage.line_percent() == 50


def test_branches_that_were_not_watched_are_not_zero() -> None:
    assert read_report(report(branches=False, app__x=(10, 5, 0, 0)), ("app",)).branch_percent() is None


def test_a_project_without_branches_has_no_percentage_of_them() -> None:
    assert read_report(report(app__x=(10, 5, 0, 0)), ("app",)).branch_percent() is None


def test_a_report_of_another_project_is_refused() -> None:
    with pytest.raises(QualityError, match="no file of app"):
        read_report(report(other__x=(1, 1, 0, 0)), ("app",))


@pytest.mark.parametrize("data", [b"", b"[]", b'{"files": {}}', b'{"meta": {"branch_coverage": true}, "files": [1]}'])
def test_what_is_no_report_is_refused(data: bytes) -> None:
    with pytest.raises(QualityError, match="no JSON report"):
        read_report(data, ("app",))
