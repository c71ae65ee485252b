"""The interpreter, its lock and its memory, set for processes that handle many small events a second."""

import ctypes
import faulthandler
import gc
import signal
import sys
from typing import Final

#: Objects that are made and not yet freed, before the youngest are looked through. Nearly all are freed by their
#: reference counts; cycles come from exceptions alone. At Python's 700 the collector took a fifth of a busy
#: dispatcher's time and a third of a busy worker's.
YOUNGEST: Final = 50_000
#: Collections of a generation before the next older one is looked through as well.
OLDER: Final = 20
#: How long a thread may keep the others waiting for the interpreter's lock. A job passes from thread to thread a dozen
#: times on its way; at Python's 5 ms the median of ``latency.dispatch`` was 8 % longer, and no more jobs a second.
SWITCH_S: Final = 0.0005
#: Pools of memory that glibc gives to threads, and ``mallopt``'s number for it (``malloc.h``). By default they are
#: eight for each core, and each keeps what its threads once had at most: free memory alone let a dispatcher with 27
#: threads grow for 40 minutes.
ARENAS: Final = 2
M_ARENA_MAX: Final = -8


def share_memory() -> None:
    """Call it before any thread starts: what one thread frees, the others then use. Nothing happens without glibc."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_ARENA_MAX, ARENAS)


def settle() -> None:
    """Call it once everything is imported and opened, which no later collection then looks through again.

    With torch loaded such a full look takes a quarter of a second, in which nothing else runs.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNGEST, OLDER, OLDER)
    sys.setswitchinterval(SWITCH_S)


def tell_when_asked() -> None:
    """From now on SIGUSR1 has every thread's stack written to stderr: what to ask a process that seems to hang."""
    faulthandler.register(signal.SIGUSR1)
