"""What a container may use, from the control groups of Linux, where that is less than what its machine has.

The files are those of version 2: https://docs.kernel.org/admin-guide/cgroup-v2.html. Of version 1 nothing is read.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from msgspec import Struct

MOUNT: Final = Path("/sys/fs/cgroup")
MEMBERSHIP: Final = Path("/proc/self/cgroup")


class Limits(Struct, frozen=True):
    """The tightest of a process' groups; None where no group limits it."""

    cpu_cores: float | None = None
    memory_bytes: int | None = None
    #: What the group with that limit uses, without the file cache that the kernel gives back under pressure.
    memory_used_bytes: int | None = None


def container_limits(mount: Path = MOUNT, membership: Path = MEMBERSHIP) -> Limits:
    """The limits of this process: a group's are those of all groups above it too."""
    cores, memory, used = None, None, None
    for group in _groups(mount, membership):
        if (found := _cores(group)) is not None and (cores is None or found < cores):
            cores = found
        if (limit := _number(group / "memory.max")) is not None and (memory is None or limit < memory):
            memory, used = limit, _used(group)
    return Limits(cores, memory, used)


def _groups(mount: Path, membership: Path) -> Iterator[Path]:
    """From the process' own group up; within a container its own is the mount itself."""
    lines = _text(membership).splitlines()
    path = next((line.removeprefix("0::") for line in lines if line.startswith("0::")), None)
    if path is None:
        return
    group = mount / path.strip("/")
    yield group
    for above in group.parents:
        if not above.is_relative_to(mount):
            return
        yield above


def _cores(group: Path) -> float | None:
    quota, _, period = _text(group / "cpu.max").partition(" ")
    if not (quota.isdigit() and period.strip().isdigit()):
        return None
    return int(quota) / int(period)


def _used(group: Path) -> int | None:
    current = _number(group / "memory.current")
    if current is None:
        return None
    fields = dict(line.split(maxsplit=1) for line in _text(group / "memory.stat").splitlines() if " " in line)
    return max(0, current - int(fields.get("inactive_file", "0")))


def _number(file: Path) -> int | None:
    text = _text(file).strip()
    return int(text) if text.isdigit() else None


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError:  # no such group, or not of version 2
        return ""
