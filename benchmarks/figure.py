"""A figure beside a peer's: one JSON line."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import median
from typing import Final, Literal

import msgspec
from msgspec import Struct

from runtime.monitoring import machine

#: Interleaved runs of ours and of the peer, by default.
RUNS: Final = 3


@dataclass(frozen=True)
class Bar:
    """What the ratio has to be."""

    sense: Literal["at most", "at least"]
    limit: float

    def holds(self, ratio: float) -> bool:
        """Whether the ratio keeps the bar."""
        return ratio <= self.limit if self.sense == "at most" else ratio >= self.limit

    def __str__(self) -> str:
        return f"{self.sense} {self.limit:g}"


class Runs(Struct, frozen=True):
    """What each run measured, in their order: ours and the peer's took turns."""

    ours: tuple[float, ...]
    peer: tuple[float, ...]


class Figure(Struct, frozen=True):
    """``ours`` and ``peer`` are medians in ``unit``; ``ratio`` is ours to the peer's, as the bar states it."""

    bench: str
    ours: float
    peer: float
    peer_name: str
    ratio: float
    unit: str
    bar: str
    holds: bool
    machine: str
    date: str
    runs: Runs

    def line(self) -> str:
        """The figure as one line of JSON."""
        return msgspec.json.encode(self).decode()


def compare(bench: str, unit: str, bar: Bar, ours: Sequence[float], peer: Sequence[float], peer_name: str) -> Figure:
    """The figure of runs that took turns; its ratio is the median of the pairs', which drift of the machine spares."""
    ratio = median(mine / other for mine, other in zip(ours, peer, strict=True))
    return Figure(
        bench=bench,
        ours=_rounded(median(ours)),
        peer=_rounded(median(peer)),
        peer_name=peer_name,
        ratio=_rounded(ratio),
        unit=unit,
        bar=str(bar),
        holds=bar.holds(ratio),
        machine=machine(),
        date=datetime.now(UTC).date().isoformat(),
        runs=Runs(tuple(map(_rounded, ours)), tuple(map(_rounded, peer))),
    )


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
