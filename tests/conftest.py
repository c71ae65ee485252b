"""The fixtures that every test may use; those of one folder lie in its own conftest."""

import signal

from tests.servers import database_url, kafka, package_database_url, redis_url, stack_env

__all__ = ["database_url", "kafka", "package_database_url", "redis_url", "stack_env"]


def pytest_configure() -> None:
    """Hear SIGINT, and so let the processes that tests start hear it.

    A shell without job control starts background commands deaf to it, and their children inherit that:
    a test that presses Ctrl-C would wait for ever.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
