"""Disks of a set size: tmpfs in a mount namespace of our own, which takes them along when it ends."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

SIZE_BYTES: Final = 1 << 30
#: What is left on a full disk: less than any server writes in a second.
LEFT_BYTES: Final = 16_384


def mount(directory: Path) -> None:
    """Put a disk of ``SIZE_BYTES`` on ``directory``."""
    directory.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        ("mount", "-t", "tmpfs", "-o", f"size={SIZE_BYTES},mode=755", "headrace-faults", str(directory)), check=True
    )


def unmount(directory: Path) -> None:
    """Take the disk away, so that the directory can be removed."""
    subprocess.run(("umount", "--lazy", str(directory)), check=False)


@contextmanager
def full(directory: Path) -> Iterator[None]:
    """Shrink the disk to what is on it."""
    _resize(directory, shutil.disk_usage(directory).used + LEFT_BYTES)
    try:
        yield
    finally:
        _resize(directory, SIZE_BYTES)


def _resize(directory: Path, size_bytes: int) -> None:
    pages = -(-size_bytes // os.sysconf("SC_PAGE_SIZE"))
    size = pages * os.sysconf("SC_PAGE_SIZE")
    subprocess.run(("mount", "-o", f"remount,size={size}", str(directory)), check=True)
