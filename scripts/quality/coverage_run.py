"""Run the tests under coverage.py, and make one report of what all processes left.

What is watched stands in ``[tool.coverage]`` of the project's pyproject.toml: with ``patch = ["subprocess"]`` every
Python process that inherits the environment is watched too. One that is killed by SIGKILL leaves nothing.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from scripts.quality.coverage_report import Coverage, read_report
from scripts.quality.project import Project, QualityError

#: Where a run leaves its data: one file a process, named ``data.<host>.<pid>.<random>``.
DATA: Final = Path("var/coverage")
COMBINE: Final = Path(__file__).with_name("combine.py")


def run_suite(project: Project, arguments: Sequence[str]) -> int:
    """Run pytest with these arguments in the project, and return its exit status; older data are removed."""
    folder = project.root / DATA
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    command = (sys.executable, "-m", "coverage", "run", "-m", "pytest", *arguments)
    environment = unwatched() | {"COVERAGE_FILE": str(folder / "data")}
    return subprocess.run(command, cwd=project.root, env=environment, check=False).returncode


def read_data(project: Project, data: Path) -> Coverage:
    """What a run covered: from the folder with its data, one combined file of data, or a JSON report.

    Raises:
        QualityError: there are no data, or they can't be read.
    """
    if data.suffix == ".json" and data.is_file():
        return read_report(data.read_bytes(), project.table.packages)
    if data.is_dir():
        files = sorted(file.resolve() for file in data.rglob("*") if file.is_file())
        if not files:
            raise QualityError(f"{data} holds no data of coverage.py: run `make coverage` first")
        return _combined(project, files)
    if data.is_file():
        return _combined(project, [data.resolve()])
    raise QualityError(f"there is no {data}: run `make coverage` first, or name another by --data")


def _combined(project: Project, files: Sequence[Path]) -> Coverage:
    packages = project.table.packages
    with tempfile.TemporaryDirectory(prefix="quality-") as directory:
        report = Path(directory, "report.json")
        command = (sys.executable, str(COMBINE), str(report), ",".join(packages), *(str(file) for file in files))
        done = subprocess.run(
            command, cwd=project.root, env=unwatched(), capture_output=True, text=True, check=False
        )  # fmt: skip
        if done.returncode != 0:
            raise QualityError(f"the data could not be combined: {(done.stdout + done.stderr).strip()}")
        return read_report(report.read_bytes(), packages, processes=len(files))


def unwatched() -> dict[str, str]:
    """Our environment without what has a process watched: we may be watched ourselves, by another run."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
