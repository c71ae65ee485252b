"""What the package offers, and what it costs to import."""

import subprocess
import sys

import runtime.pools
import runtime.pools.http


def test_every_public_name_is_there() -> None:
    assert all(hasattr(runtime.pools, name) for name in runtime.pools.__all__)
    assert all(hasattr(runtime.pools.http, name) for name in runtime.pools.http.__all__)


def test_a_name_that_is_none_is_said_to_be_none() -> None:
    assert not hasattr(runtime.pools, "httpx2")


def test_nobody_pays_for_http_who_does_not_use_it() -> None:
    program = "import sys, runtime.pools; sys.exit('httpx2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
