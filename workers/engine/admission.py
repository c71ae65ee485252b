"""Which of the waiting rows join next, and how many tokens' memory the batches may take."""

import heapq
import time
from collections import Counter
from collections.abc import Callable, Collection
from typing import Final

from workers.engine.lane import Lane
from workers.engine.row import Row

#: Prompt tokens that one step may prefill in a lane: it bounds how long the other rows wait for a newcomer.
PREFILL_TOKENS: Final = 2_048
#: A row that has waited so long counts as one of the next higher priority, as jobs do that wait for a worker.
AGING_S: Final = 300.0
#: After memory has run out, twice as much of it is tried each time that so long has gone well.
CALM_S: Final = 10.0

#: A row that may join, after those that are less: its urgency, the rows that its job has, and its number.
_Place = tuple[int, int, int, Lane, Row]


class Admission:
    """Lets rows join: at most ``max_rows`` a lane, and ``max_tokens`` tokens of keys and values over all lanes."""

    def __init__(self, max_rows: int, max_tokens: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_rows, self._max_tokens, self._clock = max_rows, max_tokens, clock
        #: What has room, as far as is known.
        self._tokens = max_tokens
        self._calm_at_s = 0.0

    def admit(self, lanes: Collection[Lane]) -> None:
        """Let waiting rows join, as far as rows, tokens and the prefill allow.

        The next place is for the most urgent job; among equals for the one with the fewest rows in its lane, so that a
        job of thousands does not hold up one with a single row; then for the one that came first.
        """
        waited = [lane for lane in lanes if lane.waiting and lane.active < self._max_rows]
        if not waited:
            return
        self._recover()
        reserved = sum(lane.reserved() for lane in lanes)
        prompt_tokens: Counter[Lane] = Counter()
        places = [place for lane in waited for place in self._places(lane)]
        heapq.heapify(places)
        while places:
            _, running, _, lane, row = heapq.heappop(places)
            if lane.active >= self._max_rows or prompt_tokens[lane] >= PREFILL_TOKENS:
                continue
            wanted = reserved - lane.reserved() + lane.reserved(row)
            if wanted > self._tokens and reserved:
                return  # the first has the next free tokens: others and smaller ones don't pass it
            lane.admit(row)
            prompt_tokens[lane] += row.length
            reserved = wanted
            if follower := lane.waiting.first(row.check):
                heapq.heappush(places, self._place(lane, follower, running + 1))

    def overflowed(self, reserved: int) -> None:
        """Memory ran out under so many reserved tokens: for a while at most half as many are tried."""
        self._tokens = min(self._tokens, reserved // 2)
        self._calm_at_s = self._clock() + CALM_S

    def _recover(self) -> None:
        now_s = self._clock()
        if self._tokens < self._max_tokens and now_s >= self._calm_at_s:
            self._tokens = min(self._max_tokens, max(1, 2 * self._tokens))
            self._calm_at_s = now_s + CALM_S

    def _places(self, lane: Lane) -> list[_Place]:
        running = Counter(row.check for row in (*lane.rows, *lane.joining))
        return [self._place(lane, row, running[row.check]) for row in lane.waiting.firsts()]

    def _place(self, lane: Lane, row: Row, running: int) -> _Place:
        aged = int((self._clock() - row.since_s) / AGING_S)
        return (max(0, row.urgency - aged), running, row.number, lane, row)
