"""The project that is looked at: its folders, core modules and goals, from ``[tool.quality]`` of pyproject.toml."""

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

#: Folders that hold no source of the project.
_SKIPPED: Final = {"__pycache__", "node_modules", ".venv"}


class QualityError(Exception):
    """The project or the data can't be looked at; the message tells what is wrong and what to do."""


class Goals(Struct, frozen=True, forbid_unknown_fields=True, rename="kebab"):
    """What each measure should reach: percentages, and lines of tests a line of source."""

    line_percent: float = 90.0
    branch_percent: float = 85.0
    mutant_percent: float = 80.0
    test_ratio: float = 1.0


class Table(Struct, frozen=True, forbid_unknown_fields=True, rename="kebab"):
    """``[tool.quality]``. ``core`` names the fast unit tests of each core module, which have to kill its mutants."""

    packages: tuple[str, ...]
    tests: tuple[str, ...] = ("tests",)
    goals: Goals = Goals()
    core: dict[str, tuple[str, ...]] = {}
    #: Beside the packages, what tests read: mutants are tried in a copy.
    copied: tuple[str, ...] = ()


class Project(Struct, frozen=True):
    """A project's root and its table."""

    root: Path
    table: Table

    @classmethod
    def at(cls, root: Path) -> "Project":
        """Read the table of the project in ``root``.

        Raises:
            QualityError: there is no such table, or it is not as it should be.
        """
        try:
            text = (root / "pyproject.toml").read_text(encoding="utf-8")
            table = tomllib.loads(text).get("tool", {}).get("quality")
        except (OSError, tomllib.TOMLDecodeError) as error:
            raise QualityError(f"{root} has no pyproject.toml that can be read: {error}") from error
        if table is None:
            raise QualityError(f'{root}/pyproject.toml has no [tool.quality]: add it, with packages = ["…"]')
        try:
            project = cls(root.resolve(), msgspec.convert(table, Table))
        except msgspec.ValidationError as error:
            raise QualityError(f"{root}/pyproject.toml: [tool.quality]: {error}") from error
        project._check_core()
        return project

    def sources(self) -> list[str]:
        """The Python files of the packages, relative to the root, in order."""
        return sorted(self._python_files(self.table.packages))

    def test_files(self) -> list[str]:
        """All Python files of the tests, with their fixtures and helpers."""
        return sorted(self._python_files(self.table.tests))

    def text(self, file: str) -> str:
        """The text of a file of the project."""
        return (self.root / file).read_text(encoding="utf-8")

    def _check_core(self) -> None:
        named = {*self.table.core, *(test for tests in self.table.core.values() for test in tests)}
        if missing := sorted(name for name in named if not (self.root / name).exists()):
            raise QualityError(f"[tool.quality.core] names {missing[0]}, which does not exist: rename or remove it")

    def _python_files(self, folders: tuple[str, ...]) -> Iterator[str]:
        for folder in folders:
            for file in (self.root / folder).rglob("*.py"):
                relative = file.relative_to(self.root)
                if not _SKIPPED.intersection(relative.parts):
                    yield relative.as_posix()
