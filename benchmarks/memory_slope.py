"""How a dispatcher's process grows in an hour at load: it is to grow by nothing that time alone adds to."""

import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from statistics import linear_regression, median
from typing import Final
from uuid import uuid4

from msgspec.structs import replace

from benchmarks.figure import Bar, Figure, compare
from benchmarks.headrace import platform
from benchmarks.records import MODELS
from producers import Headrace
from schemas.requests import GenerateRequest

NAME: Final = "memory.slope"
RATE: Final = 50
TENANTS: Final = tuple(f"tenant-{number}" for number in range(8))
HOUR_S: Final = 3_600.0
#: Shorter, to try it out.
LASTS_S: Final = float(os.environ.get("MEMORY_SLOPE_S", HOUR_S))
#: Caches, pools and the allocator fill up in the beginning.
WARM_UP: Final = 1 / 6
SAMPLE_S: Final = 5.0
BAR_MB: Final = 5.0


def measure() -> Iterator[Figure]:
    """The slope of the resident size in MB an hour, after the warm-up; the runs are medians of the hour's twelfths."""
    stop = threading.Event()
    with platform() as pids, ThreadPoolExecutor(1) as pool:
        sending = pool.submit(_send, stop)
        try:
            samples = list(_sample(pids["dispatcher"], sending))
        finally:
            stop.set()
        sending.result()
    begun_s = samples[0][0]
    steady = [(at_s, size_mb) for at_s, size_mb in samples if at_s - begun_s >= WARM_UP * LASTS_S]
    slope = linear_regression(*zip(*steady, strict=True)).slope * HOUR_S
    twelfths = [[mb for at_s, mb in samples if int((at_s - begun_s) / LASTS_S * 12) == part] for part in range(12)]
    sizes = [median(part) for part in twelfths if part]
    unit = f"MB an hour, from {WARM_UP * LASTS_S / 60:g} to {LASTS_S / 60:g} min at {RATE} jobs/s; runs: MB resident"
    figure = compare(NAME, unit, Bar("at most", 1.0), [slope], [BAR_MB], f"the bar, {BAR_MB:g} MB an hour")
    yield replace(figure, runs=replace(figure.runs, ours=tuple(round(size, 1) for size in sizes)))


def _sample(pid: int, sending: "Future[None]") -> Iterator[tuple[float, float]]:
    """Seconds and resident MB, until the time is over, or nothing is sent any more."""
    begun_s = time.monotonic()
    while (now_s := time.monotonic()) - begun_s < LASTS_S and not sending.done():
        yield now_s, resident_bytes(pid) / 1e6
        time.sleep(SAMPLE_S)


def _send(stop: threading.Event) -> None:
    """Send jobs of some tenants in turn, at an even pace; nobody reads their results."""
    run, begun_s, number = uuid4().hex[:8], time.monotonic(), 0
    with ExitStack() as stack:
        clients = [stack.enter_context(Headrace.connect(tenant=tenant)) for tenant in TENANTS]
        while not stop.is_set():
            model = MODELS[number % len(MODELS)]
            request = GenerateRequest(id=f"{run}-{number}", model=model, prompt="No-op.", max_tokens=16)
            clients[number % len(clients)].send(request)
            number += 1
            time.sleep(max(0.0, begun_s + number / RATE - time.monotonic()))


def resident_bytes(pid: int) -> int:
    """The resident size of a process now."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1_024 for line in lines if line.startswith("VmRSS:"))
