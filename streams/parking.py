"""Flows whose turn came when no worker was right for their model: they wait here, by model, and hold up no other."""

import heapq
from typing import Final

from streams.levels import Flow

#: Models that were kept waiting for as long as they may are looked at so often from then on.
LOOK_S: Final = 1.0
#: A flow's place among those of its model, a number that makes it unique, and the flow.
_Entry = tuple[tuple[int, int, int], int, Flow]


class Parking:
    """Parked flows by model, and until when each model may be kept waiting."""

    def __init__(self) -> None:
        self._flows: dict[str, list[_Entry]] = {}
        self._numbers = 0
        #: Since when nothing was given of a model, although it was its turn.
        self._since_s: dict[str, float] = {}
        #: When a model is looked at again whatever happens. An entry of the heap is valid while it says so too.
        self._due_s: dict[str, float] = {}
        self._due: list[tuple[float, str]] = []
        # Models that wait for any worker, in the order in which they began to: a dict for its order.
        self._cold: dict[str, None] = {}

    def __contains__(self, model: str) -> bool:
        return model in self._flows

    def __len__(self) -> int:
        return len(self._flows)

    def waited_s(self, model: str, at_s: float) -> float:
        """For how long the model has been kept waiting."""
        return at_s - self._since_s.get(model, at_s)

    @property
    def cold(self) -> int:
        """How many models wait for whoever can load them."""
        return len(self._cold)

    def park(self, flow: Flow) -> None:
        """Take a flow, which takes turns no more, where its model's others are already."""
        self._numbers += 1
        heapq.heappush(self._flows.setdefault(flow.model, []), (flow.order, self._numbers, flow))
        flow.parked = True
        flow.level.unready(flow)

    def hold(self, model: str, at_s: float, limit_s: float, *, cold: bool) -> None:
        """Keep a model waiting until ``limit_s`` after it began to wait; ``cold``: for whoever can load it."""
        since_s = self._since_s.setdefault(model, at_s)
        self._look_again(model, since_s + limit_s)
        if cold:
            self._cold.setdefault(model)
        else:
            self._cold.pop(model, None)

    def served(self, model: str) -> None:
        """Something of the model was given to a worker: from now on it waits anew."""
        self._since_s.pop(model, None)
        self._cold.pop(model, None)

    def forget(self, model: str) -> None:
        """No job of the model waits any more: its flows, which are empty, hold up none that comes later."""
        self.wake_model(model)
        self.served(model)
        self._due_s.pop(model, None)

    def wake(self, model: str, most: int) -> None:
        """Let the first flows of a model take their turns again."""
        entries = self._flows.get(model)
        while entries and most > 0:
            flow = heapq.heappop(entries)[2]
            if flow.parked and len(flow.jobs):
                flow.parked = False
                flow.level.ready(flow)
                most -= 1
        if entries is not None and not entries:
            del self._flows[model]

    def wake_model(self, model: str) -> None:
        """Let all flows of a model take their turns again."""
        self.wake(model, len(self._flows.get(model, ())))

    def wake_due(self, at_s: float) -> None:
        """Wake a flow of each model that has waited for as long as it may."""
        while self._due and self._due[0][0] <= at_s:
            due_s, model = heapq.heappop(self._due)
            if self._due_s.get(model) == due_s:
                del self._due_s[model]
                self.wake(model, 1)
                if model in self._flows:
                    # What was woken may go without having its turn: by a cancel, or to another level.
                    self._look_again(model, at_s + LOOK_S)

    def wake_cold(self) -> None:
        """Wake a flow of the model that has waited the longest for whoever can load it."""
        while self._cold:
            model = next(iter(self._cold))
            del self._cold[model]
            if model in self._flows:
                self.wake(model, 1)
                return

    def wake_all(self) -> None:
        """Wake everything: the workers are others now."""
        for model in list(self._flows):
            self.wake_model(model)
        self._cold.clear()

    def _look_again(self, model: str, at_s: float) -> None:
        if at_s < self._due_s.get(model, float("inf")):
            self._due_s[model] = at_s
            heapq.heappush(self._due, (at_s, model))
