"""What is recommended: each with its file and line, core modules first."""

from scripts.quality import advice
from scripts.quality.advice import Advice
from scripts.quality.coverage_report import Coverage, FileCoverage, Meta, Summary
from scripts.quality.mutants import Mutation, Survivor
from scripts.quality.sources import Function


def covered(*, lines: tuple[int, ...] = (), branches: tuple[tuple[int, int], ...] = ()) -> FileCoverage:
    counts = Summary(100, 100 - len(lines), 20, 20 - len(branches))
    return FileCoverage(counts, missing_lines=lines, missing_branches=branches)


def coverage(**files: FileCoverage) -> Coverage:
    return Coverage(Meta(branch_coverage=True), {f"app/{name}.py": file for name, file in files.items()})


def places(found: list[Advice]) -> list[str]:
    return [one.place() for one in found]


def test_every_branch_and_line_of_core_that_is_missing_is_named() -> None:
    file = covered(lines=(7, 8, 9, 20), branches=((3, 7), (5, -1)))
    found = list(advice.on_core(coverage(core=file, other=file), ["app/core.py"]))
    assert places(found) == ["app/core.py:3", "app/core.py:5", "app/core.py:7", "app/core.py:20"]
    assert found[0].text == "line 3 never went on to line 7"
    assert found[1].text == "line 5 never went out of its function"
    assert found[2].text == "lines 7 to 9 never ran"


def test_a_branch_of_a_line_that_never_ran_is_not_told_twice() -> None:
    found = list(advice.on_core(coverage(core=covered(lines=(3,), branches=((3, 4), (3, 9)))), ["app/core.py"]))
    assert [one.kind for one in found] == ["core line"]


def test_a_core_module_that_the_report_lacks_is_passed_over() -> None:
    assert list(advice.on_core(coverage(core=covered()), ["app/gone.py"])) == []


def test_other_files_come_with_the_one_that_lacks_most_first() -> None:
    found = list(
        advice.on_files(
            coverage(core=covered(lines=(1,)), a=covered(lines=(4,)), b=covered(lines=(2, 3, 9)), c=covered()),
            ["app/core.py"],
        )
    )
    assert places(found) == ["app/b.py:2", "app/a.py:4"]
    assert "3 of 100 statements never ran, first in lines 2-3, 9" in found[0].text


def test_a_mutant_is_shown_with_its_change() -> None:
    lie = (Survivor("x", "app/core.py", 12, "a < b", "a <= b"), Survivor("y", "app/core.py", 14, "a,", ""))
    found = list(advice.on_mutants(Mutation(9, 9, 0, {"survived": 2}, lie)))
    assert places(found) == ["app/core.py:12", "app/core.py:14"]
    assert found[0].text == "`a < b` became `a <= b`, and no test noticed"
    assert found[1].text == "`a,` was left out, and no test noticed"


def function(name: str, lines: int) -> Function:
    return Function("app/x.py", name, 5, lines, frozenset(), asserts=False)


def test_only_what_is_over_the_bound_is_too_long() -> None:
    found = list(advice.on_length([("app/x.py", 250), ("app/y.py", 251)], [function("fits", 40), function("over", 41)]))
    assert places(found) == ["app/x.py:5", "app/y.py:251"]


def test_idle_tests_are_named() -> None:
    assert places(list(advice.on_idle_tests([function("test_nothing", 2)]))) == ["app/x.py:5"]
