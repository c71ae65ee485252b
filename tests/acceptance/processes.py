"""Headrace's own processes under the control of a test: started, watched, killed."""

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from deploy.local.ports import LOOPBACK, free_ports

ROOT: Final = Path(__file__).parents[2]
#: Importing torch takes seconds, the more so while other processes do it too.
START_S: Final = 90.0
STOP_S: Final = 20.0


class HeadraceProcess:
    """``python -m command`` with an environment of its own; its log is kept beside its ready file."""

    def __init__(self, name: str, command: Sequence[str], directory: Path, environment: Mapping[str, str]) -> None:
        self.name = name
        self.log = directory / f"{name}.log"
        self._ready = directory / f"{name}.ready"
        # A pipe instead of a file: its reader wakes up when the process is ready, without polling.
        os.mkfifo(self._ready)
        self._reader = os.open(self._ready, os.O_RDONLY | os.O_NONBLOCK)
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env={**os.environ, **environment, "HEADRACE_READY_FILE": str(self._ready), "OMP_NUM_THREADS": "1"},
            )

    @property
    def pid(self) -> int:
        """The process' id, the same until the test ends it."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def until_ready(self) -> None:
        """Wait until it serves; an ended process fails the test with the end of its log."""
        end = os.pidfd_open(self.pid)
        try:
            seen, _, _ = select.select([self._reader, end], [], [], START_S)
        finally:
            os.close(end)
        assert self._reader in seen, f"{self.name} is not ready:\n{self.tail()}"

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> int:
        """SIGTERM, and its exit code; killed if it does not end in time."""
        self._process.terminate()
        try:
            return self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.name} did not end within {STOP_S:g} s of SIGTERM:\n{self.tail()}") from None

    def wait_until(self, deadline_s: float) -> None:
        """Wait for its end, until the given moment of the monotonic clock at most."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(max(0.0, deadline_s - time.monotonic()))

    def close(self) -> None:
        """End it in any case."""
        if self.is_running:
            self.kill()
        os.close(self._reader)

    def tail(self, lines: int = 40) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


class Platform:
    """A dispatcher and workers over the servers of a test run, with a store and model roots of their own."""

    def __init__(self, servers: Mapping[str, str], directory: Path, models: tuple[Path, ...]) -> None:
        self.directory = directory
        self.store = directory / "store"
        self._environment = {
            **servers,
            "HEADRACE_STORE": self.store.as_uri(),
            "HEADRACE_MODELS": os.pathsep.join(str(path) for path in models),
            "HEADRACE_DATA": os.pathsep.join([str(ROOT / "examples"), str(directory)]),
            "HEADRACE_METRICS_INTERVAL_S": "1",
            # Short, so that a test of takeover takes seconds.
            "HEADRACE_LEASE_S": "6",
            "HEADRACE_CHECKPOINT_S": "1",
        }
        self._processes: list[HeadraceProcess] = []
        self.servers = servers
        #: The page of the dispatcher that was started last.
        self.metrics_url = ""
        self.dispatchers: list[HeadraceProcess] = []
        self.workers: list[HeadraceProcess] = []

    def cache_of(self, worker: HeadraceProcess) -> Path:
        """The disk cache of one worker."""
        return self.directory / f"cache-{worker.name}"

    def start_dispatcher(self) -> HeadraceProcess:
        """One more dispatcher; not waited for."""
        (port,) = free_ports(1)
        self.metrics_url = f"http://{LOOPBACK}:{port}/metrics"
        process = self._start(f"dispatcher-{len(self._processes)}", "streams", {"HEADRACE_METRICS_PORT": str(port)})
        self.dispatchers.append(process)
        return process

    def start_worker(self) -> HeadraceProcess:
        """One more worker with a disk cache of its own; not waited for."""
        name = f"worker-{len(self._processes)}"
        process = self._start(name, "workers", {"HEADRACE_CACHE_DIR": str(self.directory / f"cache-{name}")})
        self.workers.append(process)
        return process

    def close(self) -> None:
        """End all processes: workers first, so that the dispatcher sees them leave."""
        deadline = time.monotonic() + STOP_S
        for process in reversed(self._processes):
            if process.is_running:
                process.signal(signal.SIGTERM)
        for process in self._processes:
            process.wait_until(deadline)
            process.close()

    def _start(self, name: str, module: str, own: Mapping[str, str]) -> HeadraceProcess:
        process = HeadraceProcess(name, [module], self.directory, {**self._environment, **own})
        self._processes.append(process)
        return process
