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
from typing import Final, Protocol

from scripts.quality.coverage_run import unwatched
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

    def call(self, names: Sequence[str], timeout_s: float) -> tuple[int, str] | None:
        """Try these mutants: mutmut's exit status and what it said, or None where the time was up."""
        arguments = ("run", "--max-children", "2", *names)
        command = (str(self._python), "-P", "-c", _START, sysconfig.get_path("purelib"), *arguments)
        return run_within(command, self._folder, timeout_s)

    def exit_codes(self) -> dict[str, dict[str, int | None]]:
        """Each core module's mutants and their exit status."""
        metas = {file: self._folder / "mutants" / f"{file}.meta" for file in self._project.table.core}
        return {file: exit_codes(meta.read_bytes()) for file, meta in metas.items() if meta.exists()}

    def survivors(self, file: str, names: Sequence[str]) -> list[Survivor]:
        """Where these mutants of ``file`` lie."""
        return survivors(self._project.root, self._folder / "mutants", file, names)


def run_within(command: Sequence[str], folder: Path, timeout_s: float) -> tuple[int, str] | None:
    """Run a program: its exit status and what it said, or None where it was ended, with all that it had started."""
    with subprocess.Popen(
        command, cwd=folder, env=unwatched(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    ) as process:  # fmt: skip
        try:
            said, _ = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            return None
        finally:
            # Also where we are interrupted: a terminal's Ctrl-C does not reach another session.
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
        return process.returncode, said


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
    with tempfile.TemporaryDirectory(prefix="quality-mutants-", ignore_cleanup_errors=True) as directory:
        laboratory = Laboratory(project, Path(directory), python)
        laboratory.prepare()
        # Called for none, it makes all of them, and notes which test calls what.
        _, said = laboratory.call([_NO_MUTANT], budget_s) or (0, f"{budget_s:.0f} s were not enough")
        names = sorted(name for codes in laboratory.exit_codes().values() for name in codes)
        if not names or "nothing matches" not in said:
            raise QualityError(f"mutmut made no mutants: {_last_lines(said)}")
        drawn = random.Random(seed).sample(names, min(size, len(names)))
        found = dict(tried(laboratory, drawn, end))
        return _judged(laboratory, found, len(names), len(drawn), seed)


class Trials(Protocol):
    """Where mutants are tried."""

    def call(self, names: Sequence[str], timeout_s: float) -> tuple[int, str] | None:
        """Try these; None where the time was up."""

    def exit_codes(self) -> dict[str, dict[str, int | None]]:
        """By file, each mutant's exit status so far."""


def tried(laboratory: Trials, drawn: Sequence[str], end: float) -> Iterator[tuple[str, Verdict]]:
    """The verdicts of those that could be tried until ``end``, a moment of the monotonic clock.

    Raises:
        QualityError: mutmut failed.
    """
    for start in range(0, len(drawn), BATCH):
        batch = drawn[start : start + BATCH]
        left = end - time.monotonic()
        # A batch that is cut off has tried its quick ones: it counts for nothing.
        if left <= 0 or (done := laboratory.call(batch, left)) is None:
            return
        if done[0] != 0:
            raise QualityError(f"mutmut could not try mutants: {_last_lines(done[1])}")
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


def _last_lines(text: str) -> str:
    return "\n".join(text.strip().splitlines()[-8:])
