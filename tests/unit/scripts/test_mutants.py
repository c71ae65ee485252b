"""What became of mutants, from what mutmut leaves; and where they lie."""

import json
from pathlib import Path

import pytest

from scripts.quality.mutants import Mutation, counted, exit_codes, survivors, verdicts

SOURCE = '''"""Sums."""

LIMIT = 3


def small(value: int) -> bool:
    """Whether it is small."""
    return value < LIMIT


class Sum:
    def add(
        self,
        value: int,
    ) -> int:
        return value + 1
'''
#: As mutmut 3.8 writes it, without the trampolines that choose one of them.
MUTATED = '''"""Sums."""

LIMIT = 3


def x_small__mutmut_orig(value: int) -> bool:
    """Whether it is small."""
    return value < LIMIT


def x_small__mutmut_1(value: int) -> bool:
    """Whether it is small."""
    return value <= LIMIT


class Sum:
    def xǁSumǁadd__mutmut_orig(
        self,
        value: int,
    ) -> int:
        return value + 1

    def xǁSumǁadd__mutmut_2(
        self,
        value: int,
    ) -> int:
        return value - 1

    def xǁSumǁadd__mutmut_3(
        self,
    ) -> int:
        return value + 1
'''


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    root, mutated = tmp_path / "root", tmp_path / "mutants"
    for folder, text in ((root, SOURCE), (mutated, MUTATED)):
        folder.mkdir()
        (folder / "sums.py").write_text(text, encoding="utf-8")
    return root, mutated


def test_a_survivor_is_shown_at_its_line_of_the_source(folders: tuple[Path, Path]) -> None:
    (found,) = survivors(*folders, "sums.py", ["sums.x_small__mutmut_1"])
    assert (found.file, found.line) == ("sums.py", 8)
    assert (found.before, found.after) == ("return value < LIMIT", "return value <= LIMIT")


def test_a_survivor_in_a_method_is_found_below_its_signature(folders: tuple[Path, Path]) -> None:
    (found,) = survivors(*folders, "sums.py", ["sums.xǁSumǁadd__mutmut_2"])
    assert (found.line, found.after) == (16, "return value - 1")


def test_a_line_that_was_left_out_became_nothing(folders: tuple[Path, Path]) -> None:
    (found,) = survivors(*folders, "sums.py", ["sums.xǁSumǁadd__mutmut_3"])
    assert (found.line, found.before, found.after) == (14, "value: int,", "")


def test_a_name_that_is_not_in_the_file_is_passed_over(folders: tuple[Path, Path]) -> None:
    assert survivors(*folders, "sums.py", ["sums.x_gone__mutmut_1"]) == []


def test_verdicts_are_those_of_the_mutants_that_were_drawn_and_tried() -> None:
    meta = {"exit_code_by_key": {"a": 1, "b": 0, "c": None, "d": 36, "e": 33, "f": -9, "g": 0}, "durations_by_key": {}}
    found = verdicts(exit_codes(json.dumps(meta).encode()), ["a", "b", "c", "d", "e", "f"])
    assert found == {"a": "killed", "b": "survived", "d": "timed out", "e": "no tests", "f": "unclear"}


def test_a_hang_is_noticed_and_a_mutant_without_tests_is_not() -> None:
    mutation = Mutation(100, 10, 0, counted({"a": "killed", "b": "timed out", "c": "survived", "d": "no tests"}))
    assert mutation.percent() == 50


def test_what_is_unclear_counts_for_neither_side() -> None:
    mutation = Mutation(100, 10, 0, {"killed": 3, "survived": 1, "unclear": 5})
    assert mutation.tried() == 4
    assert mutation.percent() == 75


def test_without_a_mutant_that_was_tried_there_is_no_percentage() -> None:
    mutation = Mutation(100, 10, 0, {})
    assert mutation.percent() is None
    assert mutation.interval() is None


def test_the_interval_is_wilson_s() -> None:
    # 8 of 10: 0.4902 to 0.9433 (Newcombe 1998, method 3, without continuity correction).
    interval = Mutation(100, 10, 0, {"killed": 8, "survived": 2}).interval()
    assert interval == pytest.approx((49.02, 94.33), abs=0.01)


def test_the_interval_stays_within_0_and_100_where_all_were_noticed() -> None:
    interval = Mutation(100, 10, 0, {"killed": 10}).interval()
    assert interval is not None
    assert interval == pytest.approx((72.25, 100), abs=0.01)
