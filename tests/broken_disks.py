"""Disks that fail, without a disk that does."""

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

#: A plain file by all that can be asked of it; who reads its first byte gets EIO.
UNREADABLE: Final = Path("/proc/self/mem")


@contextmanager
def no_more_files() -> Iterator[None]:
    """This process can open no file: EMFILE."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    # The lowest number that is free; all below are taken.
    free = os.open(os.devnull, os.O_RDONLY)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
