"""The whole platform, once for all acceptance tests: a dispatcher, two workers, and the real servers."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping

import pytest

from producers import Headrace
from tests.acceptance.processes import ROOT, Platform
from tests.acceptance.topics import forget_records
from tests.tiny_models import save_tiny_model


@pytest.fixture(scope="package")
def platform(
    stack_env: Mapping[str, str], package_database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Platform]:
    servers = {**stack_env, "HEADRACE_DATABASE": package_database_url}
    directory = tmp_path_factory.mktemp("platform")
    prepare(servers)
    roots = (ROOT / "examples" / "models", directory / "models")
    for architecture in ("gpt2", "qwen2", "gemma"):
        save_tiny_model(directory / "models" / f"tiny-{architecture}", architecture)
    running = Platform(servers, directory, roots)
    try:
        for process in (running.start_dispatcher(), running.start_worker(), running.start_worker()):
            process.until_ready()
        yield running
    finally:
        running.close()


@pytest.fixture
def client(platform: Platform) -> Iterator[Headrace]:
    with Headrace.connect(kafka=platform.servers["HEADRACE_KAFKA"]) as connected:
        yield connected


def prepare(servers: Mapping[str, str]) -> None:
    """Topics, tables, and topics without what earlier tests have left in them."""
    for module, *arguments in (("producers", "topics", "create"), ("runtime.database", "upgrade")):
        subprocess.run([sys.executable, "-m", module, *arguments], check=True, cwd=ROOT, env=environment(servers))
    forget_records(servers["HEADRACE_KAFKA"])


def environment(servers: Mapping[str, str]) -> dict[str, str]:
    """This process' environment with the servers' addresses."""
    return {**os.environ, **servers}
