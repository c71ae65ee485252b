"""A hit of the memory tier in one thread, beside caches with their memory backends."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from benchmarks.figure import Bar, Figure, compare

NAME: Final = "cache.hit"
ROOT: Final = Path(__file__).parents[1]
PYTHON: Final = ROOT / "var/peers/bin/python"
PROGRAM: Final = Path(__file__).parent / "peers/cache_hits.py"
#: Hits of each contender in each of forty turns.
CALLS: Final = 2_000
MOST_US: Final = 3.0
MOST_ADDED_US: Final = 2.0


def measure() -> Iterator[Figure]:
    """The p50 of a hit beside the bar and the peers, awaited where the peer's is; then what the decorator adds."""
    runs = hits_us()
    for policy in ("LRU", "S3-FIFO"):
        plain, awaited = runs[f"ours, {policy}"], runs[f"ours, {policy}, awaited"]
        bar = [MOST_US] * len(plain)
        yield compare(NAME, f"µs a hit, {policy}", Bar("at most", 1.0), plain, bar, "3 µs")
        half = Bar("at most", 0.5)
        yield compare(NAME, f"µs a hit, {policy}", half, plain, runs["dogpile.cache"], "dogpile.cache, memory")
        yield compare(NAME, f"µs an awaited hit, {policy}", half, awaited, runs["cashews"], "cashews, mem://")
        yield compare(NAME, f"µs an awaited hit, {policy}", half, awaited, runs["aiocache"], "aiocache, memory")
        added = [decorated - hit for decorated, hit in zip(runs[f"ours, {policy}, decorated"], plain, strict=True)]
        most = [MOST_ADDED_US] * len(added)
        yield compare(NAME, f"µs that @cache_result adds, {policy}", Bar("at most", 1.0), added, most, "2 µs")


def hits_us() -> dict[str, list[float]]:
    """Microseconds a hit by contender, a value a turn."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [str(PYTHON), str(PROGRAM), str(CALLS)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    runs: dict[str, list[float]] = json.loads(done.stdout)
    return runs
