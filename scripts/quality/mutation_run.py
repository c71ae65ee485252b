"""Try mutants of the core modules by mutmut, in a copy of the project: a sample, drawn by a seed, within a time.

mutmut tries those first whose tests are quick, so a run that is cut off has tried an easy lot. Here they are tried
in the order in which they were drawn, a few at a time: whenever time is up, what was tried is a fair sample. mutmut
needs a newer click than Faust allows and so lives in an environment of its own, which borrows the project's packages.
"""

import os
import random
import shutil
import signal
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from scripts.quality.mutants import Mutation, Survivor, Verdict, counted, exit_codes, survivors, verdicts
from scripts.quality.project import Project, QualityError

#: Mutants a call of mutmut: each call costs some seconds beside them, and the last one may be for nothing.
BATCH: Final = 12
#: Takes mutmut of its own environment and pytest's plugins, which come last, of ours.
_START: Final = "import site, sys; site.addsitedir(sys.argv.pop(1)); from mutmut.__main__ import cli; cli()"
_NO_MUTANT: Final = "none"
_COPIED: Final = ("pyproject.toml",)
_IGNORED: Final = shutil.ignore_patterns("__pycache__", "*.pyc", "var", ".venv", "results")


class Laboratory:
    """A copy of the project in which mutmut works."""

    def __init__(self, project: Project, folder: Path, python: Path) -> None:
        self._project = project
        self._folder = folder
        self._python = python

    def prepare(self) -> None:
        """Copy the project and tell mutmut what to change."""
        table = self._project.table
        for name in (*table.packages, *table.tests, *table.copied, *_COPIED):
            source, target = self._project.root / name, self._folder / name
            if source.is_dir():
                shutil.copytree(source, target, ignore=_IGNORED)
            elif source.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, target)
        tests = sorted({test for tests in table.core.values() for test in tests})
        with (self._folder / "pyproject.toml").open("a", encoding="utf-8") as file:
            file.write(
                f"\n[tool.mutmut]\nsource_paths = {_toml(table.packages)}\nonly_mutate = {_toml(tuple(table.core))}\n"
                f"also_copy = {_toml((*table.copied, *table.tests))}\n"
                f"pytest_add_cli_args_test_selection = {_toml(tests)}\n"
                # The copy has no history to ask. A mutant hangs that takes so many times as long as its tests did.
                "use_git_change_detection = false\ntimeout_multiplier = 4.0\ntimeout_constant = 2.0\n"
            )

    def call(self, names: Sequence[str], timeout_s: float) -> str | None:
        """Try these mutants; None where the time was up, else what mutmut said."""
        command = (
            str(self._python), "-P", "-c", _START, sysconfig.get_path("purelib"), "run", "--max-children", "2", *names,
        )  # fmt: skip
        with subprocess.Popen(
            command, cwd=self._folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            start_new_session=True,
        ) as process:  # fmt: skip
            try:
                return process.communicate(timeout=timeout_s)[0]
            except subprocess.TimeoutExpired:
                # With the mutants that it runs in processes of their own.
                os.killpg(process.pid, signal.SIGKILL)
                return None

    def exit_codes(self) -> dict[str, dict[str, int | None]]:
        """Each core module's mutants and their exit status."""
        metas = {file: self._folder / "mutants" / f"{file}.meta" for file in self._project.table.core}
        return {file: exit_codes(meta.read_bytes()) for file, meta in metas.items() if meta.exists()}

    def survivors(self, file: str, names: Sequence[str]) -> list[Survivor]:
        """Where these mutants of ``file`` lie."""
        return survivors(self._project.root, self._folder / "mutants", file, names)


def try_mutants(project: Project, python: Path, size: int, seed: int, budget_s: float) -> Mutation:
    """Draw ``size`` mutants of the core modules and try those for which ``budget_s`` is enough.

    Raises:
        QualityError: the project names no core modules, there is no mutmut, or it can't run their tests.
    """
    if not project.table.core:
        raise QualityError("[tool.quality.core] of pyproject.toml names no module")
    if not python.exists():
        raise QualityError(f"there is no {python}, where mutmut should be: run `make tools`")
    end = time.monotonic() + budget_s
    with tempfile.TemporaryDirectory(prefix="quality-mutants-") as directory:
        laboratory = Laboratory(project, Path(directory), python)
        laboratory.prepare()
        said = laboratory.call([_NO_MUTANT], budget_s)
        names = sorted(name for codes in laboratory.exit_codes().values() for name in codes)
        if said is None or not names or "nothing matches" not in said:
            raise QualityError(f"mutmut made no mutants in {budget_s:.0f} s: {_last_lines(said)}")
        drawn = random.Random(seed).sample(names, min(size, len(names)))
        found = dict(_tried(laboratory, drawn, end))
        return _judged(laboratory, found, len(names), len(drawn), seed)


def _tried(laboratory: Laboratory, drawn: Sequence[str], end: float) -> Iterator[tuple[str, Verdict]]:
    for start in range(0, len(drawn), BATCH):
        batch = drawn[start : start + BATCH]
        left = end - time.monotonic()
        # A batch that is cut off has tried its quick ones: it counts for nothing.
        if left <= 0 or laboratory.call(batch, left) is None:
            return
        codes = {name: code for codes in laboratory.exit_codes().values() for name, code in codes.items()}
        yield from verdicts(codes, batch).items()


def _judged(laboratory: Laboratory, found: dict[str, Verdict], mutants: int, drawn: int, seed: int) -> Mutation:
    unnoticed = {name for name, verdict in found.items() if verdict in ("survived", "no tests")}
    lie = [
        survivor
        for file, codes in laboratory.exit_codes().items()
        for survivor in laboratory.survivors(file, sorted(unnoticed & codes.keys()))
    ]
    return Mutation(mutants, drawn, seed, counted(found), tuple(lie))


def _toml(values: Sequence[str]) -> str:
    return "[" + ", ".join(f'"{value}"' for value in values) + "]"


def _last_lines(text: str | None) -> str:
    return "no time was left" if text is None else "\n".join(text.strip().splitlines()[-8:])
