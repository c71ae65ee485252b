"""What things take, as far as heartbeats tell: a job's time in its slot, and a model's way into memory."""

from typing import Final

from schemas.topics import Kind

#: Before anything was measured: it counts like so many jobs that took so long.
RUN_S: Final = {Kind.GENERATE: 1.0, Kind.FINETUNE: 60.0, Kind.EVALUATE: 30.0}
RUNS: Final = 4.0
LOAD_S: Final = 2.0
#: Half of what is known is forgotten in this time.
HALF_LIFE_S: Final = 60.0
#: The weight of the newest load: that of a sample in TCP's smoothed round trip (RFC 6298).
ALPHA: Final = 1 / 8
#: Models whose loading times are kept.
MODELS: Final = 4_096


class RunTimes:
    """Seconds that a job of a kind is in its slot, by Little's law: slot seconds over jobs that ended."""

    def __init__(self) -> None:
        self._busy_s = {kind: RUNS * RUN_S[kind] for kind in Kind}
        self._ended = dict.fromkeys(Kind, RUNS)
        self._at_s = dict.fromkeys(Kind, 0.0)

    def observe(self, kind: Kind, busy_s: float, ended: int, at_s: float) -> None:
        """Note that slots were busy for ``busy_s`` in all, and that so many jobs ended meanwhile."""
        if busy_s <= 0 and ended <= 0:
            return
        keep = 0.5 ** (max(0.0, at_s - self._at_s[kind]) / HALF_LIFE_S) if self._at_s[kind] else 1.0
        self._at_s[kind] = at_s
        self._busy_s[kind] = self._busy_s[kind] * keep + busy_s
        self._ended[kind] = self._ended[kind] * keep + ended

    def run_s(self, kind: Kind) -> float:
        """The estimate."""
        return self._busy_s[kind] / max(self._ended[kind], 1e-9)


class LoadTimes:
    """Seconds from the job that needs a model to the heartbeat that tells of it, smoothed."""

    def __init__(self) -> None:
        self._by_model: dict[str, float] = {}
        self._mean_s = LOAD_S

    def observe(self, model: str, load_s: float) -> None:
        """Note that a model was loaded."""
        self._mean_s += ALPHA * (load_s - self._mean_s)
        # The one that was measured last is at the end.
        before_s = self._by_model.pop(model, load_s)
        self._by_model[model] = before_s + ALPHA * (load_s - before_s)
        if len(self._by_model) > MODELS:
            del self._by_model[next(iter(self._by_model))]

    def load_s(self, model: str) -> float:
        """The estimate: for a model that was loaded before it is its own, and its files are near; else the mean."""
        return self._by_model.get(model, self._mean_s)
