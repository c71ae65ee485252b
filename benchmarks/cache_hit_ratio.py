"""How many requests the memory tier answers: Zipf's law with scans, a cache of 1 % of what is asked for.

The optimum is Belady's: "A study of replacement algorithms for a virtual-storage computer" (IBM Systems Journal, 1966).
"""

import heapq
from collections.abc import Iterator
from typing import Final

import numpy as np

from benchmarks.figure import RUNS, Bar, Figure, compare
from runtime.cache import Limits, Lru, Policy, S3Fifo
from runtime.cache.entries import Entry

NAME: Final = "cache.hit_ratio"
OBJECTS: Final = 100_000
REQUESTS: Final = 400_000
EXPONENT: Final = 0.9
#: A fifth of the requests are scans over objects that are asked for once.
SCAN: Final = 1_000
SCAN_SHARE: Final = 0.2
SHARE: Final = 0.01
POINTS: Final = 5.0


def measure() -> Iterator[Figure]:
    """The scan-resistant policy beside LRU, the optimum, and the best that knows popularities alone; a seed a run."""
    ours, lru, optimum, known = [], [], [], []
    for seed in range(RUNS):
        trace = zipf_with_scans(seed)
        size = round(len(set(trace)) * SHARE)
        limits = Limits(entries=size, size_bytes=2**40)
        ours.append(hits_percent(S3Fifo(limits), trace))
        lru.append(hits_percent(Lru(limits), trace))
        optimum.append(belady_percent(trace, size))
        known.append(100 * sum(number < size for number in trace) / len(trace))
    gained = [mine - theirs for mine, theirs in zip(ours, lru, strict=True)]
    yield compare(NAME, "points over LRU", Bar("at least", 1.0), gained, [POINTS] * RUNS, "5 points")
    yield compare(NAME, "% of requests", Bar("at least", 0.9), ours, optimum, "Belady's optimum")
    yield compare(NAME, "% of requests", Bar("at least", 0.9), ours, known, "the most popular, known beforehand")


def zipf_with_scans(seed: int) -> list[int]:
    """Objects in the order of requests; 0 is the most popular one."""
    rng = np.random.default_rng(seed)
    shares = np.cumsum(1 / np.arange(1, OBJECTS + 1) ** EXPONENT)
    popular = np.searchsorted(shares / shares[-1], rng.random(REQUESTS))
    between = round(SCAN / SCAN_SHARE - SCAN)
    parts = []
    for number, first in enumerate(range(0, REQUESTS, between)):
        begin = OBJECTS + number * SCAN
        parts += [popular[first : first + between], np.arange(begin, begin + SCAN)]
    trace: list[int] = np.concatenate(parts).tolist()
    return trace


def hits_percent(policy: Policy, trace: list[int]) -> float:
    """Requests that the policy answers."""
    hits = 0
    for name in map(str, trace):
        if policy.find(name):
            hits += 1
        else:
            policy.add(Entry(name, None, 1))
    return 100 * hits / len(trace)


def belady_percent(trace: list[int], size: int) -> float:
    """Requests answered by a cache that lets go of what is asked for latest, and takes nothing that never is again."""
    never = len(trace)
    following = [never] * len(trace)
    last: dict[int, int] = {}
    for index in range(len(trace) - 1, -1, -1):
        following[index] = last.get(trace[index], never)
        last[trace[index]] = index
    held: dict[int, int] = {}
    latest: list[tuple[int, int]] = []
    hits = 0
    for index, number in enumerate(trace):
        if number in held:
            hits += 1
            del held[number]
        if following[index] == never:
            continue
        held[number] = following[index]
        heapq.heappush(latest, (-following[index], number))
        while len(held) > size:
            at, candidate = heapq.heappop(latest)
            if held.get(candidate) == -at:
                del held[candidate]
    return 100 * hits / len(trace)
