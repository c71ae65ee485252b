"""Clocks that jump while their process runs, by libfaketime; the monotonic ones stay true."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

#: Debian's place of it; the package is ``faketime``.
LIBRARIES: Final = Path("/usr/lib")
LIBRARY: Final = "faketime/libfaketimeMT.so.1"
#: How often the process looks for a new offset.
NOTICED_S: Final = 1


def library() -> Path | None:
    """libfaketime for programs with threads; None where it is not installed."""
    return next(iter(LIBRARIES.glob(f"*/{LIBRARY}")), None)


def environment(offset_file: Path) -> Mapping[str, str]:
    """What a process needs for its wall clock to follow ``offset_file``; nothing without libfaketime."""
    found = library()
    if found is None:
        return {}
    offset_file.write_text("+0")
    return {
        "LD_PRELOAD": str(found),
        "FAKETIME_TIMESTAMP_FILE": str(offset_file),
        "FAKETIME_CACHE_DURATION": str(NOTICED_S),
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


@contextmanager
def jump(offset_file: Path, offset_s: int) -> Iterator[None]:
    """Set the clock off by so many seconds for the block."""
    offset_file.write_text(f"{offset_s:+d}")
    try:
        yield
    finally:
        offset_file.write_text("+0")
