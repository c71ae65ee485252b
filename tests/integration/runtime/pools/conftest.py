"""HTTP servers on loopback."""

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.runtime.pools import http1, http2


@pytest.fixture
def host() -> Iterator[http1.Host]:
    with http1.running() as running:
        yield running


@pytest.fixture
def other_host() -> Iterator[http1.Host]:
    with http1.running() as running:
        yield running


@pytest.fixture(scope="session")
def contexts(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """TLS: the server's, and that of a client that trusts it."""
    directory: Path = tmp_path_factory.mktemp("certificate")
    return http2.certificate(directory)


@pytest.fixture
def host2(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> Iterator[http2.Host2]:
    with http2.running(contexts[0]) as running:
        yield running
