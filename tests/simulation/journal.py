"""What happened in a simulation: the trace and its hash, the faults as far as they explain anything, the violations."""

from collections.abc import Iterable
from hashlib import blake2b

from tests.simulation.loop import Process, SimLoop


class Journal:
    """Kept by the world, read by the invariants."""

    def __init__(self, loop: SimLoop, *, trace: bool) -> None:
        self._loop = loop
        self._keeps = trace
        self._hash = blake2b(digest_size=8)
        #: When, until when, and whom a fault has met; None is everybody.
        self._faults: list[tuple[float, float, Process | None]] = []
        self.trace: list[str] = []
        #: Name of the invariant, and what broke it.
        self.violations: list[tuple[str, str]] = []

    def note(self, text: str) -> None:
        """Add a line to the trace."""
        line = f"{self._loop.time():9.4f} {text}"
        self._hash.update(line.encode())
        if self._keeps:
            self.trace.append(line)

    def trace_hash(self) -> str:
        """The digest of all lines so far."""
        return self._hash.hexdigest()

    def violate(self, invariant: str, text: str) -> None:
        """A promise is broken."""
        self.note(f"VIOLATION {invariant}: {text}")
        self.violations.append((invariant, text))

    def fault(self, process: Process | None, lasts_s: float = 0.0) -> None:
        """A fault meets a process, or everybody, from now on."""
        now_s = self._loop.time()
        self._faults.append((now_s, now_s + lasts_s, process))

    def explained(self, since_s: float, processes: Iterable[Process | None]) -> bool:
        """Whether a fault has met one of the processes, or everybody, since then."""
        among = {None, *processes}
        return any(process in among and until_s >= since_s for _, until_s, process in self._faults)

    def quiet_since_s(self) -> float:
        """When the last fault was over."""
        return max((until_s for _, until_s, _ in self._faults), default=0.0)

    def met(self) -> set[Process | None]:
        """Whom a fault has met so far."""
        return {process for _, _, process in self._faults}
