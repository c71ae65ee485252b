"""The machine that a figure was measured on."""

import os
import platform


def machine() -> str:
    """The processor, how many cores of it this process may use, the kernel and Python."""
    cores = len(os.sched_getaffinity(0))
    system = f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
    return f"{cores} cores, {_processor()}, {system}"


def _processor() -> str:
    with open("/proc/cpuinfo", encoding="utf-8") as lines:
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
