"""Grandchildren whose parent died: they become our children, so that we can end them."""

import ctypes

import psutil

#: prctl(2)
PR_SET_CHILD_SUBREAPER = 36

#: A killed process is gone when the kernel has torn it down; longer than this is a stuck device.
GONE_WITHIN_S = 5.0


def adopt_orphans() -> None:
    """Make this process the parent of every descendant that loses its own."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER) failed")


def kill_orphans() -> None:
    """Kill every descendant that is left, and wait until they are gone."""
    orphans = psutil.Process().children(recursive=True)
    for orphan in orphans:
        orphan.kill()
    psutil.wait_procs(orphans, timeout=GONE_WITHIN_S)
