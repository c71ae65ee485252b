"""What the machine, or the container that this process is in, has and uses: processor, memory, disks, GPUs."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil
from msgspec import Struct

from runtime.monitoring.container import Limits, container_limits
from runtime.monitoring.gpu import GpuReading, Gpus


class DiskReading(Struct, frozen=True):
    """The file system that a path is on; free is what this process may still write."""

    path: str
    used_bytes: int
    free_bytes: int


class SystemReading(Struct, frozen=True, kw_only=True):
    """One moment. ``cpu_used_ratio``: of all cores since the reading before; None in the first one."""

    #: What this process may use: its cores by affinity, or less by its container's quota.
    cpu_cores: float
    cpu_used_ratio: float | None
    #: Of the container where that has less than the machine.
    memory_total_bytes: int
    memory_used_bytes: int
    in_container: bool
    disks: tuple[DiskReading, ...]
    gpus: tuple[GpuReading, ...]


class System:
    """Reads the machine; one reader each, for it remembers its last reading. Not thread-safe."""

    def __init__(
        self,
        disks: Sequence[Path] = (),
        gpus: Gpus | None = None,
        limits: Callable[[], Limits] = container_limits,
    ) -> None:
        self._disks = disks
        self._gpus = gpus
        self._limits = limits
        self._last: tuple[float, float] | None = None

    def read(self) -> SystemReading:
        """Everything now; takes about a millisecond."""
        limits = self._limits()
        memory = psutil.virtual_memory()
        total, used = memory.total, memory.total - memory.available
        cores = float(len(os.sched_getaffinity(0)))
        tighter = limits.memory_bytes is not None and limits.memory_bytes < total
        if limits.memory_bytes is not None and tighter:
            total = limits.memory_bytes
            used = limits.memory_used_bytes if limits.memory_used_bytes is not None else used
        fewer = limits.cpu_cores is not None and limits.cpu_cores < cores
        return SystemReading(
            cpu_cores=min(cores, limits.cpu_cores) if limits.cpu_cores is not None else cores,
            cpu_used_ratio=self._cpu_used_ratio(),
            memory_total_bytes=total,
            memory_used_bytes=used,
            in_container=tighter or fewer,
            disks=tuple(reading for path in self._disks for reading in _disk(path)),
            gpus=self._gpus.read() if self._gpus else (),
        )

    def _cpu_used_ratio(self) -> float | None:
        """Of the whole machine, the container's neighbours too: they are what this process waits for."""
        times = psutil.cpu_times()
        idle_s = times.idle + getattr(times, "iowait", 0.0)
        # Guests' time is in the users' already.
        all_s = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
        last, self._last = self._last, (idle_s, all_s)
        if last is None or all_s <= last[1]:
            return None
        return min(1.0, max(0.0, 1 - (idle_s - last[0]) / (all_s - last[1])))


def _disk(path: Path) -> list[DiskReading]:
    """Nothing of a path that is not there yet."""
    try:
        usage = psutil.disk_usage(os.fspath(path))
    except OSError:
        return []
    return [DiskReading(os.fspath(path), usage.used, usage.free)]
