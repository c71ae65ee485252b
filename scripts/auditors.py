"""The tools that ask an advisory database about our lock files, and what each of them says.

A tool that could not ask its database has not said that all is well: here that is a verdict of its own.
"""

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Literal

import msgspec
from msgspec import Struct

State = Literal["clean", "holes", "did not run"]
_BY_WEIGHT: Final[tuple[State, ...]] = ("clean", "did not run", "holes")
#: An audit asks a server once for each of some hundred packages.
TIMEOUT_S: Final = 300.0
#: safety/constants.py, EXIT_CODE_VULNERABILITIES_FOUND.
SAFETY_FOUND: Final = 64


class Verdict(Struct, frozen=True):
    """What a tool found; with the reason where it did not run."""

    tool: str
    state: State
    lines: tuple[str, ...] = ()


class _Vulnerability(Struct, frozen=True):
    id: str
    fix_versions: tuple[str, ...] = ()


class _Dependency(Struct, frozen=True):
    name: str
    version: str = ""
    skip_reason: str | None = None
    vulns: tuple[_Vulnerability, ...] = ()


class _Audit(Struct, frozen=True):
    dependencies: tuple[_Dependency, ...]


def pip_audit_verdict(output: str, complaint: str) -> Verdict:
    """What pip-audit's JSON says.

    A package that the index does not know is skipped, and pip-audit still ends with success: an index without
    advisories (a mirror) skips all of them. So one that was skipped was not audited, and the verdict says so.
    """
    try:
        dependencies = msgspec.json.decode(output, type=_Audit).dependencies
    except msgspec.DecodeError:
        return Verdict("pip-audit", "did not run", (last_line(complaint) or "it wrote no report",))
    found = tuple(
        f"{one.name} {one.version} has {hole.id}: take {' or '.join(hole.fix_versions) or 'another package'}"
        for one in dependencies
        for hole in one.vulns
    )
    skipped = [one for one in dependencies if one.skip_reason is not None]
    if found:
        return Verdict("pip-audit", "holes", found)
    if skipped or not dependencies:
        reason = skipped[0].skip_reason if skipped else "there was nothing to audit"
        return Verdict(
            "pip-audit", "did not run", (f"{len(skipped)} of {len(dependencies)} could not be audited: {reason}",)
        )
    return Verdict("pip-audit", "clean", (f"{len(dependencies)} packages",))


def pip_audit(tools: Path, locks: Sequence[Path]) -> Verdict:
    """Ask the index about every locked version; nothing is installed or resolved."""
    program = tools / "bin/pip-audit"
    if not program.exists():
        return Verdict("pip-audit", "did not run", (f"there is no {program}: run `make tools`",))
    command = (str(program), "--disable-pip", "--require-hashes", "--format=json", "--progress-spinner=off")
    # One after the other: it refuses two files that lock one package.
    return together([pip_audit_verdict(*_run([*command, "--requirement", str(lock)])[1:]) for lock in locks])


def together(verdicts: Sequence[Verdict]) -> Verdict:
    """One verdict of a tool's several: the worst, with the lines of all that have it."""
    worst = max(verdicts, key=lambda verdict: _BY_WEIGHT.index(verdict.state))
    lines = (line for verdict in verdicts if verdict.state == worst.state for line in verdict.lines)
    return Verdict(worst.tool, worst.state, tuple(dict.fromkeys(lines)))


def safety_verdict(status: int, output: str, complaint: str) -> Verdict:
    """What Safety's exit status says."""
    if status == 0:
        return Verdict("safety", "clean")
    if status == SAFETY_FOUND:
        return Verdict("safety", "holes", tuple(output.strip().splitlines()))
    return Verdict("safety", "did not run", (last_line(complaint) or f"it ended with status {status}",))


def safety(tools: Path, locks: Sequence[Path], environment: Mapping[str, str] = os.environ) -> Verdict:
    """Ask Safety's database, which needs a key; without ``SAFETY_API_KEY`` it does not run."""
    program = tools / "bin/safety"
    if not environment.get("SAFETY_API_KEY"):
        return Verdict("safety", "did not run", ("SAFETY_API_KEY is not set",))
    if not program.exists():
        return Verdict("safety", "did not run", (f"there is no {program}: run `make tools`",))
    named = [argument for lock in locks for argument in ("--file", str(lock))]
    return safety_verdict(*_run([str(program), "check", "--output=text", *named]))


def bandit(tools: Path, folders: Sequence[str]) -> Verdict:
    """Look at the code itself, which needs no database."""
    program = tools / "bin/bandit"
    if not program.exists():
        return Verdict("bandit", "did not run", (f"there is no {program}: run `make tools`",))
    command = [str(program), "--quiet", "--recursive", "--configfile=pyproject.toml", "--format=custom"]
    command += ["--msg-template={relpath}:{line}: {test_id} {severity} {msg}", *folders]
    status, output, complaint = _run(command)
    if status == 0:
        return Verdict("bandit", "clean", (", ".join(folders),))
    if status == 1 and output.strip():
        return Verdict("bandit", "holes", tuple(output.strip().splitlines()))
    return Verdict("bandit", "did not run", (last_line(complaint) or f"it ended with status {status}",))


def last_line(text: str) -> str:
    """The last line that says something."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""


def _run(command: Sequence[str]) -> tuple[int, str, str]:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return -1, "", f"no answer within {TIMEOUT_S:.0f} s"
    return done.returncode, done.stdout, done.stderr
