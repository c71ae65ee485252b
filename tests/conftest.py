"""The fixtures that every test may use; those of one folder lie in its own conftest."""

import signal
from pathlib import PurePosixPath

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from tests.servers import database_url, kafka, package_database_url, redis_url, stack_env

__all__ = ["database_url", "kafka", "package_database_url", "redis_url", "stack_env"]


def pytest_configure() -> None:
    """Hear SIGINT, and so let the processes that tests start hear it.

    A shell without job control starts background commands deaf to it, and their children inherit that:
    a test that presses Ctrl-C would wait for ever.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


class ByFolder(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """Keeps a folder's tests in one process: they share its platform and its servers."""

    def _split_scope(self, nodeid: str) -> str:
        return str(PurePosixPath(nodeid.partition("::")[0]).parent)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByFolder:
    """How ``--numprocesses`` shares the tests out."""
    return ByFolder(config, log)
