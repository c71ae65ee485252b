"""Headrace's processes on the servers of the environment, for as long as a figure needs them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

START_S: Final = 60.0
STOP_S: Final = 15.0


@contextmanager
def platform(
    workers: int = 1, seconds: float = 0.0, settings: Mapping[str, str] | None = None
) -> Iterator[dict[str, int]]:
    """A dispatcher and workers whose jobs take ``seconds``, ready to work; the process ids by name."""
    prepare()
    programs = {"dispatcher": ["streams"]}
    programs |= {f"worker-{number}": ["benchmarks.programs.worker", str(seconds)] for number in range(1, workers + 1)}
    with TemporaryDirectory() as ready:
        processes: dict[str, subprocess.Popen[bytes]] = {}
        try:
            for name, program in programs.items():
                own = {"HEADRACE_READY_FILE": f"{ready}/{name}", "HEADRACE_METRICS_PORT": "0", "OMP_NUM_THREADS": "1"}
                processes[name] = start(program, own | dict(settings or {}))
            for name, process in processes.items():
                wait_for(Path(ready) / name, process)
            yield {name: process.pid for name, process in processes.items()}
        finally:
            for process in reversed(processes.values()):
                end(process)


def prepare() -> None:
    """Create what is missing of the topics and the tables."""
    for module in (["producers", "topics", "create"], ["runtime.database", "upgrade"]):
        subprocess.run([sys.executable, "-m", *module], check=True, stdout=subprocess.DEVNULL)


def start(module: Sequence[str], settings: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start ``python -m module`` with these settings on top of the environment's."""
    return subprocess.Popen([sys.executable, "-m", *module], env=os.environ | settings, stdout=sys.stderr)


def wait_for(path: Path, process: subprocess.Popen[bytes]) -> None:
    """Wait until a process has written its ready file."""
    deadline = time.monotonic() + START_S
    while not path.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{path.name} did not start (exit status {process.returncode})")
        time.sleep(0.05)


def end(process: subprocess.Popen[bytes]) -> None:
    """Stop a process as a supervisor would."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
