"""A dispatcher and a worker whose jobs do nothing, on real servers: what they carry is the load."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import psutil
import pytest

from producers import Headrace
from tests.acceptance.conftest import prepare
from tests.acceptance.processes import HeadraceProcess


@dataclass(frozen=True)
class Platform:
    """Processes under load, and the addresses of their servers."""

    servers: Mapping[str, str]
    processes: tuple[HeadraceProcess, ...]

    def memory_bytes(self) -> dict[str, int]:
        """What each process has resident."""
        return {process.name: psutil.Process(process.pid).memory_info().rss for process in self.processes}


@pytest.fixture(scope="package")
def platform(
    stack_env: Mapping[str, str], package_database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Platform]:
    servers = {**stack_env, "HEADRACE_DATABASE": package_database_url}
    prepare(servers)
    directory = tmp_path_factory.mktemp("load")
    own = {**servers, "HEADRACE_METRICS_PORT": "0", "HEADRACE_METRICS_INTERVAL_S": "1"}
    processes = (
        HeadraceProcess("dispatcher", ["streams"], directory, own),
        HeadraceProcess("worker", ["benchmarks.programs.worker", "0"], directory, own),
    )
    try:
        for process in processes:
            process.until_ready()
        yield Platform(servers, processes)
    finally:
        for process in reversed(processes):
            process.stop()
            process.close()


@pytest.fixture
def client(platform: Platform) -> Iterator[Headrace]:
    with Headrace.connect(
        kafka=platform.servers["HEADRACE_KAFKA"], database=platform.servers["HEADRACE_DATABASE"]
    ) as connected:
        yield connected
