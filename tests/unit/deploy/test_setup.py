"""The set-up on machines of other releases, with programs that only note how they are called."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
#: What the script calls of the system itself.
TOOLS = ("bash", "cat", "dirname", "env", "flock", "id", "mkdir", "rm", "sed", "sha256sum", "tail", "tr")
PYTHON = """
case "$1" in
    -V) echo "Python {version}" ;;
    *) exit {refuses} ;;
esac
"""
JAVA = """echo 'openjdk version "{version}.0.1"' >&2"""
APT = 'echo "$*" >>"$CALLS"'
#: The last three keep the test from changing the machine: whoever is root has no need of them here.
NOTHING = ("mvn", "redis-server", "initdb", "kcat", "promtool", "iptables", "ip", "strace", "tee", "chmod", "systemctl")


class Machine:
    """A checkout with nothing but the script, and a folder of programs."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._calls = directory / "calls"
        self._programs = directory / "programs"
        (directory / "scripts").mkdir()
        self._programs.mkdir()
        shutil.copy(ROOT / "scripts/setup", directory / "scripts/setup")
        for name in TOOLS:
            program = shutil.which(name)
            assert program, name
            (self._programs / name).symlink_to(program)
        for name in NOTHING:
            self.has(name, "exit 0")
        self.has("sudo", "exit 1")
        self.has("apt-get", APT)
        self.has("apt-cache", "exit 0")

    def has(self, name: str, script: str) -> None:
        """Have a program."""
        program = self._programs / name
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)

    def set_up(self) -> tuple[str, str]:
        """What the script says, and what it has apt-get do; it can't succeed."""
        environment = {"PATH": str(self._programs), "CALLS": str(self._calls)}
        script = self._directory / "scripts/setup"
        done = subprocess.run((script,), env=environment, capture_output=True, text=True, check=False)
        assert done.returncode != 0
        return done.stderr, self._calls.read_text() if self._calls.exists() else ""


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="others can't install")


@as_root
@pytest.mark.parametrize("version", ["3.10.12", "3.13.5"])
def test_a_python_of_another_version_is_told_of_where_the_release_has_no_better_one(
    machine: Machine, version: str
) -> None:
    machine.has("python3", PYTHON.format(version=version, refuses=1))
    machine.has("java", JAVA.format(version=17))
    said, installed = machine.set_up()
    assert "python3 python3-venv" in installed
    assert f"this needs Python 3.11 or 3.12 with venv, and Python {version} is here" in said
    assert "command not found" not in said


@as_root
@pytest.mark.parametrize(("found", "package"), [(0, "openjdk-17-jre-headless"), (100, "default-jre-headless")])
def test_java_is_the_one_that_the_release_has(machine: Machine, found: int, package: str) -> None:
    machine.has("python3", PYTHON.format(version="3.13.5", refuses=1))
    machine.has("java", JAVA.format(version=11))
    machine.has("apt-cache", f"exit {found}")
    _, installed = machine.set_up()
    *_, install = installed.splitlines()
    assert package in install.split()
    assert len([word for word in install.split() if "jre" in word]) == 1
